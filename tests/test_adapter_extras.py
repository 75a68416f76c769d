"""What stands beside other systems' people: at the top of their file, on the command line, in a scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _adapter_bodies import SIZE, installed_smpl
from adapter_fixtures import SOURCES, Source, plain_table

from crowdmesh.adapters import identify, image_names, read_people, read_scenes
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene


@pytest.fixture(autouse=True, scope="module")
def smpl(tmp_path_factory):
    """A made-up SMPL is installed."""
    with installed_smpl(tmp_path_factory.mktemp("assets")):
        yield


def read(source: Source, path, **change) -> Scene:
    return read_people(path, **({"adapter": source.adapter, "unpickle": source.pickled} | source.options | change))


@pytest.fixture
def surfaces(tmp_path):
    """Writes people of SAM 3D Body without masks, as a list under one key, and what its user puts beside them."""
    source = SOURCES["sam3d-body"]()
    people = [{key: value for key, value in person.items() if key != "mask"} for person in source.content["outputs"]]

    def write(**beside):
        beside = {"image_size": SIZE, "faces": source.options["faces"]} | beside
        return replace(source, content={"outputs": people} | beside, suffix=".json").save(tmp_path)

    return write


def test_what_stands_beside_the_systems_keys_is_used(surfaces):
    path = surfaces(stature_m=[1.8, 1.1, 1.6])
    people = read_people(path).people
    np.testing.assert_allclose(people.stature_m, [1.8, 1.1, 1.6])
    with pytest.raises(ValueError, match="is of a 640x427 image, not 640x480"):
        read_people(path, image_size=(640, 480))


def test_ages_sexes_and_known_statures_beside_the_systems_keys(surfaces, tmp_path):
    path = surfaces(age_years=[35, 7, None], age_std_years=[5, 1, 3], male_probability=[1, 0.5, 0],
                    known_stature_m=[None, 1.2, None])  # fmt: skip
    people = read_people(path).people
    np.testing.assert_array_equal(people.age_years, [35, 7, np.nan])
    np.testing.assert_array_equal(people.age_std_years, [5, 1, 3])
    np.testing.assert_array_equal(people.male_probability, [1, 0.5, 0])
    np.testing.assert_array_equal(people.known_stature_m, [np.nan, 1.2, np.nan])
    source = SOURCES["romp"]()  # whose people have parameters
    content = source.content | {"age_years": np.array([35.0, 7, 60])}
    people = read(source, replace(source, content=content).save(tmp_path)).people
    np.testing.assert_array_equal(people.age_years, [35, 7, 60])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"age_years": [35, 7]}, r"age_years must have shape \(3,\) for 3 people, got \(2,\)"),
        ({"age_years": [35, -7, 1]}, "age_years must not be negative"),
        ({"age_years": 35}, "age_years must have one number for each person"),
        ({"male_probability": [1, 2, 0]}, r"male_probability must lie in \[0, 1\]"),
        ({"known_stature_m": [180, 120, 160]}, "known_stature_m must be in metres: 180 lies outside"),
        ({"stature_m": [180, 120, 160]}, "stature_m must be in metres: 180 lies outside"),
        ({"stature_m": ["tall", "small", "tall"]}, "stature_m must hold numbers"),
        ({"stature_m": [1.8, 1.2]}, "stature_m must have shape"),
        ({"image_size": ["a", "b"]}, "image_size must hold numbers"),
        ({"image_size": [640.7, 427.2]}, r"image_size must hold whole numbers, got 640\.7"),
        ({"image_size": [640]}, r"image_size must be \(width, height\)"),
        ({"intrinsics": "abc"}, "intrinsics must hold numbers"),
        ({"intrinsics": [1, 2]}, "intrinsics must be a 3x3 matrix"),
        (
            {"intrinsics": [[500, 0, 320], [0, 500, 213.5], [0, 0, 1]]},
            "'intrinsics' have a focal length of 500 px, but",
        ),
        ({"faces": [[0, 1, 2], [1, 2]]}, "faces must hold numbers in a regular array"),
        ({"faces": [[0, 1, 2.5]]}, "faces must hold whole numbers"),
    ],
)
def test_what_stands_beside_the_systems_keys_is_checked(surfaces, beside, message):
    path = surfaces(**beside)
    with pytest.raises(InputError, match=f"^{path}: .*{message}"):
        read_people(path)


def test_triangles_and_cameras_said_twice_must_agree(surfaces):
    focal = float(np.hypot(*SIZE))
    path = surfaces(intrinsics=[[focal, 0, SIZE[0] / 2], [0, focal, SIZE[1] / 2], [0, 0, 1]])
    fov = 2 * np.arctan(SIZE[1] / 2 / focal)
    assert read_people(
        path, vertical_fov=fov, faces=SOURCES["sam3d-body"]().options["faces"]
    ).camera.fx == pytest.approx(focal)
    with pytest.raises(InputError, match="were placed for a focal length of 769 px"):
        read_people(path, vertical_fov=0.8)
    with pytest.raises(InputError, match="triangles given are not those of the file's own 'faces'; leave --faces out"):
        read_people(path, faces=np.array([[0, 1, 2]]))


def test_statures_beside_parameters_must_be_those_of_the_shapes(tmp_path):
    source = SOURCES["romp"]()
    own = read(source, source.save(tmp_path)).people.stature_m
    path = replace(source, content=source.content | {"stature_m": own + 0.01}).save(tmp_path)
    np.testing.assert_array_equal(read(source, path).people.stature_m, own)
    path = replace(source, content=source.content | {"stature_m": own + np.array([0, 0.1, 0])}).save(tmp_path)
    with pytest.raises(InputError, match=r"stature_m of person 1 is .* m but the shape makes"):
        read(source, path)


def test_one_number_a_person_belongs_to_one_image(tmp_path):
    source = SOURCES["dto opt"]()
    content = source.content | {"age_years": np.array([35.0, 7, 60])}
    with pytest.raises(InputError, match="age_years beside 2 images could be anybody's; save a file of one image"):
        read(source, replace(source, content=content).save(tmp_path))


def test_a_table_takes_what_it_lacks_from_beside_it(tmp_path):
    source = plain_table()
    content = {k: v for k, v in source.content.items() if k not in ("image_size", "intrinsics", "faces")}
    path = replace(source, content=content).save(tmp_path)
    said = {"image_size": SIZE, "intrinsics": source.content["intrinsics"], "faces": source.content["faces"]}
    scene = read_people(path, **said)
    np.testing.assert_allclose(scene.camera.project(scene.people.joints_m), source.joints_px, atol=0.01)
    with pytest.raises(ValueError, match="lacks 'image_size'"):
        read_people(path)
    with pytest.raises(ValueError, match="were placed for a focal length of 1000 px"):
        read_people(source.save(tmp_path), vertical_fov=0.5)


def test_a_scene_file_keeps_its_camera(tmp_path):
    scene = read_people(plain_table().save(tmp_path))
    scene.save(tmp_path / "x.scene.npz")
    again = read_people(tmp_path / "x.scene.npz", image_size=SIZE)
    assert [name for name, _ in read_scenes(tmp_path / "x.scene.npz")] == [""]
    np.testing.assert_array_equal(again.people.vertices_m, scene.people.vertices_m)
    with pytest.raises(ValueError, match=r"x\.scene\.npz: the file is of a 640x427 image"):
        read_people(tmp_path / "x.scene.npz", image_size=(640, 480))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapter": "romp"}, "is a scene of this package; leave --adapter out"),
        ({"adapter": "table"}, "is a scene of this package; leave --adapter out"),
        ({"image": "im.jpg"}, "is a scene, which is of one image; leave --image out"),
        ({"faces": np.array([[0, 1, 2]])}, "the scene has bodies with triangles of their own; leave --faces out"),
        ({"vertical_fov": 1.5}, "were placed for a focal length of 1000 px"),
    ],
)
def test_nothing_else_counts_beside_a_scene(tmp_path, options, message):
    scene, path = read_people(plain_table().save(tmp_path)), tmp_path / "x.scene.npz"
    scene.save(path)
    with pytest.raises(InputError, match=rf"x\.scene\.npz.* {message}"):
        read_people(path, **options)
    assert (identify(path), image_names(path)) == ([], [""])
    assert len(read_people(path, faces=scene.people.faces).people) == 3
