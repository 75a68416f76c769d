"""Published per-person labels (4D-Humans, CameraHMR, DTO-Humans) as a source: people are given, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from crowdmesh.assets import cache_folder, digest_of, search_folders
from crowdmesh.body import find_smpl, load_body
from crowdmesh.errors import InputError
from crowdmesh.pgt.records import Entry, Outcome, Sample
from crowdmesh.pgt.sources._image_files import ImageFiles, count_images, upright_size
from crowdmesh.pgt.sources._label_files import LabelFile, inspect
from crowdmesh.pgt.sources._label_scenes import LabelBlock, LabelError, block_of, blocks, scene_of
from crowdmesh.pgt.sources._label_table import Contents, LabelTable, convert, table_path
from crowdmesh.pgt.sources._table_lock import sweep_conversions

_ENDINGS = ("-release.npz", "_release.npz", "_chmr_smpl.npz", "_chmr_smpl_opt.npz", "_opt.npz", "-opt.npz")
_ROWS_AT_ONCE = 1024
_MOST_NAMED = 10


class LabelSource:
    """Label files, and the images that they are of; a :class:`~crowdmesh.pgt.sources.base.Source`.

    An entry's ``row`` and ``count`` are rows of a table that is made of the label files once; its ``part`` is where the
    image lies below the folder of images.

    Attributes:
        images: folder of the images. cache: folder of the table.
    """

    kind = "4dhumans"
    needs_experts = False
    licences = (
        "labels: the terms of their authors; those of CameraHMR (Max Planck Society) and DTO-Humans (CC BY-NC 4.0) "
        "exclude commercial use, also of what is built from them",
        "SMPL, whose parameters published labels are: your own copy, under the licence of smpl.is.tue.mpg.de",
        "images: the terms of InstaVariety, COCO, MPII, AI Challenger or whoever you got them from",
    )

    def __init__(
        self,
        data: str | Path,
        images: str | Path | None = None,
        cache: str | Path | None = None,
        unpickle: bool = False,
    ) -> None:
        """Name the data; nothing is read yet.

        Args:
            data: a folder of label files, or one of them. In a folder, files with the names of published ones count
                (``*-release.npz``, ``*_CHMR_SMPL.npz``, ``*_CHMR_SMPL_OPT.npz``, ``*_opt.npz``); without any, every
                ``.npz`` does.
            images: folder of the images; by default the folder ``images`` beside the label files, else their folder.
            cache: folder for the table, of about the size of the labels; by default in the user's cache.
            unpickle: read pickled label files, without running anything in them.

        Raises:
            InputError: there are no such files.
        """
        self.data, self.unpickle = Path(data), unpickle
        self.images = _images_of(self.data, images)
        self.cache = Path(cache) if cache is not None else cache_folder() / "labels"
        self._paths, self._aside = _label_paths(self.data)
        self._files: list[LabelFile] | None = None
        self._table: Path | None = None  # goes to other processes, which need not read the label files again
        self._found: int | None = None

    def signature(self) -> dict[str, Any]:
        """Kind and content of the label files, and of the user's SMPL if they are SMPL's.

        Raises:
            AssetError: they are, and the user has no SMPL here.
        """
        files = {path.name: {"bytes": path.stat().st_size, "sha256": digest_of(path)} for path in self._paths}
        told = {"kind": self.kind, "data_sets": sorted({file.data_set for file in self.files()}), "files": files}
        if any(file.body == "smpl" for file in self.files()):
            model, kid_template = find_smpl(None, search_folders())
            told["smpl"] = digest_of(model)
            told["kid_template"] = None if kid_template is None else digest_of(kid_template)
        return told

    def files(self) -> list[LabelFile]:
        """What the label files are, in the order of their names, which is the order of the people of one image.

        Raises:
            FormatError: damaged, pickled without ``unpickle``, or of a layout that is not known.
            InputError: two files with one content, or files of one data set with different layouts or bodies.
        """
        if self._files is None:
            files = [inspect(path, self.unpickle) for path in self._paths]
            _check_apart(files)
            self._files = files
        return self._files

    def notes(self) -> list[str]:
        """What a plan says: what is not read of the label files; once all is listed, images without labels."""
        said = [f"not read of {file.path.name}: {', '.join(file.unread)}" for file in self.files() if file.unread]
        if self._aside:
            listed = ", ".join(self._aside[:_MOST_NAMED]) + (" ..." if len(self._aside) > _MOST_NAMED else "")
            said.append(f"left aside, because their names are not those of label files: {listed}")
        if self._found is not None and (count := self.unlabelled()):
            said.append(f"{count:,} images in {self.images} have no labels")
        return said

    def table(self, progress: Callable[[int], None] | None = None) -> Path:
        """The table of the label files, made if it is not there yet; Parquet.

        Args:
            progress: called with numbers of people read, when the table is made.
        """
        if self._table is None or not self._table.is_file():
            files = self.files()
            target = table_path(self.cache, files)
            if target.is_file():
                sweep_conversions(target.parent)
            else:
                convert(files, target, self.unpickle, progress)
            self._table = target
        return self._table

    def entries(self) -> Iterator[Entry]:
        """Every labelled image; those that are not there are not ``found``.

        Raises:
            AssetError: the labels are SMPL's, and the user has no SMPL here.
            InputError: they use SMPL's kid axis and the user has no kid template here, or they hold nobody.
        """
        finder, images, found = ImageFiles(self.images), 0, 0
        with LabelTable(self.table()) as table:
            self._check_body(table.contents)
            for group in table.groups():
                images += 1
                place = finder.find(group.data_set, group.name, table.contents.parts_of(group.data_set, group.path))
                found += place is not None
                yield Entry(group.data_set, group.path, place or "", group.row, group.count, place is not None)
        if not images:
            raise InputError(f"the label files in {self.data} hold no people; name others")
        self._found = found

    def unlabelled(self) -> int:
        """How many images below the folder of images have no labels; of what cannot be read there is no count."""
        if self._found is None:
            for _ in self.entries():
                pass
        assert self._found is not None
        return max(0, count_images(self.images) - self._found)

    def load(self, entries: Sequence[Entry]) -> Iterator[Sample]:
        """The labelled people of these images.

        Raises:
            AssetError: the labels are SMPL's, and the user has no SMPL here.
            InputError: the entries are of other label files. FormatError: the table is damaged.
        """
        finder = ImageFiles(self.images)
        with LabelTable(self.table()) as table:
            for part in blocks([e.count for e in entries], [e.dataset for e in entries], _ROWS_AT_ONCE):
                chosen = entries[part]
                rows = table.rows([(entry.row, entry.count) for entry in chosen])
                block = block_of(rows, table.contents.bodies[chosen[0].dataset])
                paths, names = rows["path"].to_pylist(), rows["name"].to_pylist()
                first = 0
                for entry in chosen:
                    if paths[first] != entry.path:
                        raise InputError(f"{entry.key} is not in the labels of {self.data}, which are of other images")
                    place = _place(finder, entry, names[first], table.contents)
                    yield self._sample(entry, place, block, slice(first, first + entry.count), table)
                    first += entry.count

    def _check_body(self, contents: Contents) -> None:
        """Refuse labels whose bodies the user cannot make, before a plan is made of them."""
        if "smpl" not in contents.bodies.values():
            return
        model = load_body("smpl")
        if contents.kid_axis and not model.has_kid_axis:
            raise InputError(
                f"labels of {', '.join(contents.kid_axis)} in {self.data} use SMPL's kid axis (an eleventh beta), and "
                "there is no kid template beside your SMPL; put smpl_kid_template.npy there"
            )

    def _sample(self, entry: Entry, place: str | None, block: LabelBlock, rows: slice, table: LabelTable) -> Sample:
        image = None if place is None else self.images / place
        try:
            scene, numbers = scene_of(
                block,
                rows,
                lambda row: table.contents.origin(entry.dataset, row),
                lambda: None if image is None else upright_size(image),
            )
        except LabelError as error:
            return Sample(entry, image, problem=(Outcome.LABELS_INVALID, str(error)))
        if scene is None:
            return Sample(entry, image, problem=(Outcome.NOBODY, "its labels are of nobody"))
        return Sample(entry, image, people=scene, label_rows=numbers)


def _place(finder: ImageFiles, entry: Entry, name: str, contents: Contents) -> str | None:
    """Where the image lies: where it was when the plan was made, or wherever it is now."""
    if entry.part and (finder.root / entry.part).is_file():
        return entry.part
    return finder.find(entry.dataset, name, contents.parts_of(entry.dataset, entry.path))


def _images_of(data: Path, images: str | Path | None) -> Path:
    if images is not None:
        if not Path(images).is_dir():
            raise InputError(f"the folder of images {images} does not exist")
        return Path(images)
    folder = data.parent if data.is_file() else data
    return folder / "images" if (folder / "images").is_dir() else folder


def _label_paths(data: Path) -> tuple[list[Path], list[str]]:
    """The label files in the order of their names, and the names of other archives beside them."""
    if data.is_file():
        if data.suffix.lower() != ".npz":
            raise InputError(f"a label file is an .npz archive, got {data}")
        return [data], []
    if not data.is_dir():
        raise InputError(f"{data} does not exist; name a folder of label files, or one of them")
    archives = [path for path in data.glob("*.npz") if not path.name.startswith(".")]
    published = [path for path in archives if path.name.lower().endswith(_ENDINGS)]
    if not archives:
        raise InputError(f"there is no label file (*-release.npz, *_CHMR_SMPL_OPT.npz, *_opt.npz) in {data}")
    chosen = sorted(published or archives, key=lambda path: path.name)
    return chosen, sorted({path.name for path in archives} - {path.name for path in chosen})


def _check_apart(files: Sequence[LabelFile]) -> None:
    """Refuse files that would bring the same people twice."""
    by_digest: dict[str, LabelFile] = {}
    by_data_set: dict[str, LabelFile] = {}
    for file in files:
        twin = by_digest.setdefault(digest_of(file.path), file)
        if twin is not file:
            raise InputError(f"{file.path} is a copy of {twin.path.name}; its people would count twice, so remove one")
        other = by_data_set.setdefault(file.data_set, file)
        if (other.layout, other.body) != (file.layout, file.body):
            raise InputError(
                f"{file.path} and {other.path.name} are different labels of the data set {file.data_set!r}; its people "
                "would count twice, so name one of the files as the data, or move one away"
            )
