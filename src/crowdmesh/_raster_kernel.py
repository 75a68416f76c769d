"""The Warp kernel of the z-buffer: one Python source, compiled for CPU and CUDA.

Each covered pixel keeps the smallest key ``float32 depth bits << 32 | face index``. Positive floats order like
integers, so one integer atomic-min settles depth and identity together, whatever the order of execution. Coverage is
decided in exact integers of 1/256 pixel: no gaps or double hits along shared edges, the same pixels on every device.
"""

import warp as wp

from crowdmesh._native import native_stderr_hidden

wp.config.enable_backward = False
wp.config.log_level = wp.LOG_ERROR
with native_stderr_hidden():
    wp.init()
wp.set_module_options({"fuse_fp": False})

EMPTY_KEY = (0x7F800000 << 32) | 0xFFFFFFFF  # depth +inf, face -1

# Snapped coordinates stay within +-2**28 (one million pixels): edge products then fit 64 bits with room to spare.
_LIMIT = wp.constant(2.0**28)


@wp.func
def _fill(
    a: wp.vec2i,
    b: wp.vec2i,
    c: wp.vec2i,
    inverse_a: float,
    inverse_b: float,
    inverse_c: float,
    person: int,
    face: wp.int64,
    masks: wp.array3d(dtype=wp.uint8),
    keys: wp.array2d(dtype=wp.int64),
):
    """Scan-convert one triangle given by snapped corners and inverse depths."""
    height = keys.shape[0]
    width = keys.shape[1]
    left = wp.max(0, (wp.min(a[0], wp.min(b[0], c[0])) + 127) >> 8)
    right = wp.min(width - 1, (wp.max(a[0], wp.max(b[0], c[0])) - 128) >> 8)
    top = wp.max(0, (wp.min(a[1], wp.min(b[1], c[1])) + 127) >> 8)
    bottom = wp.min(height - 1, (wp.max(a[1], wp.max(b[1], c[1])) - 128) >> 8)
    if left > right or top > bottom:
        return
    ux = wp.int64(b[0] - a[0])
    uy = wp.int64(b[1] - a[1])
    vx = wp.int64(c[0] - a[0])
    vy = wp.int64(c[1] - a[1])
    area = ux * vy - vx * uy
    if area == wp.int64(0):
        return
    sign = wp.int64(1)
    if area < wp.int64(0):
        sign = wp.int64(-1)
    area = sign * area
    px = wp.int64(left * 256 + 128 - a[0])
    py = wp.int64(top * 256 + 128 - a[1])
    row_b = sign * (vy * px - vx * py)
    row_c = sign * (ux * py - uy * px)
    scale = 1.0 / float(area)
    slope_b = (inverse_b - inverse_a) * scale
    slope_c = (inverse_c - inverse_a) * scale
    for y in range(top, bottom + 1):
        weight_b = row_b
        weight_c = row_c
        for x in range(left, right + 1):
            if weight_b >= wp.int64(0) and weight_c >= wp.int64(0) and weight_b + weight_c <= area:  # noqa: SIM102
                if masks.shape[0] == 0 or masks[person, y, x] != wp.uint8(0):
                    depth = 1.0 / (inverse_a + float(weight_b) * slope_b + float(weight_c) * slope_c)
                    key = (wp.int64(wp.cast(depth, wp.int32)) << wp.int64(32)) | face
                    wp.atomic_min(keys, y, x, key)
            weight_b += sign * vy * wp.int64(256)
            weight_c -= sign * uy * wp.int64(256)
        row_b -= sign * vx * wp.int64(256)
        row_c += sign * ux * wp.int64(256)


@wp.func
def _snap(point: wp.vec3, fx: float, fy: float, cx: float, cy: float):
    u = wp.clamp((fx * point[0] / point[2] + cx) * 256.0, -_LIMIT, _LIMIT)
    v = wp.clamp((fy * point[1] / point[2] + cy) * 256.0, -_LIMIT, _LIMIT)
    return wp.vec2i(int(wp.round(u)), int(wp.round(v)))


@wp.func
def _to_near(inside: wp.vec3, outside: wp.vec3, near: float):
    """Where the edge from a point in front of the near plane to one behind it meets the plane."""
    t = (near - inside[2]) / (outside[2] - inside[2])
    x = inside[0] + t * (outside[0] - inside[0])
    y = inside[1] + t * (outside[1] - inside[1])
    return wp.vec3(x, y, near)


@wp.kernel(grid_stride=False)
def rasterize_faces(
    vertices: wp.array2d(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    fx: float,
    fy: float,
    cx: float,
    cy: float,
    near: float,
    masks: wp.array3d(dtype=wp.uint8),
    keys: wp.array2d(dtype=wp.int64),
):
    """One thread per (person, face); triangles that cross the near plane are clipped to one or two."""
    person, index = wp.tid()
    triangle = faces[index]
    face = wp.int64(person) * wp.int64(faces.shape[0]) + wp.int64(index)
    a = vertices[person, triangle[0]]
    b = vertices[person, triangle[1]]
    c = vertices[person, triangle[2]]
    in_front = int(a[2] > near) + int(b[2] > near) + int(c[2] > near)
    if in_front == 0:
        return
    d = c  # fourth corner of a clipped quad
    if in_front < 3:
        # Rotate the corners so that (one in front) it is a, or (one behind) it is c.
        if in_front == 1:
            if b[2] > near:
                a, b, c = b, c, a
            elif c[2] > near:
                a, b, c = c, a, b
            b = _to_near(a, b, near)
            c = _to_near(a, c, near)
        else:
            if not (a[2] > near):
                a, b, c = b, c, a
            elif not (b[2] > near):
                a, b, c = c, a, b
            d = _to_near(a, c, near)
            c = _to_near(b, c, near)
    pa = _snap(a, fx, fy, cx, cy)
    pb = _snap(b, fx, fy, cx, cy)
    pc = _snap(c, fx, fy, cx, cy)
    _fill(pa, pb, pc, 1.0 / a[2], 1.0 / b[2], 1.0 / c[2], person, face, masks, keys)
    if in_front == 2:
        pd = _snap(d, fx, fy, cx, cy)
        _fill(pa, pc, pd, 1.0 / a[2], 1.0 / c[2], 1.0 / d[2], person, face, masks, keys)
