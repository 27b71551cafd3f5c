"""The page's part that shows samples."""

from __future__ import annotations

from shoal_core.data.quality.charts import curve
from shoal_core.data.quality.gallery import Gallery
from shoal_core.data.quality.markup import Child, Markup, element, join
from shoal_core.data.quality.page_parts import hint, table


def samples(gallery: Gallery) -> Markup | None:
    """Images by class, rows, texts or curves, as they are in the shards."""
    note = "Of the training split, chosen by hash, as the model sees them."
    if gallery.pictures:
        return join([hint(note), element("div", *_pictures(gallery), class_="classes")])
    if gallery.rows:
        return join([hint(note), table("Samples, cleaned and encoded", gallery.header, gallery.rows, headed=False)])
    if gallery.series:
        cards: list[Child] = []
        for target, columns in gallery.series:
            lines = [
                part for name, values in columns.items() for part in (hint(name), curve(values, f"{name} over time"))
            ]
            cards.append(element("div", element("h3", f"target: {target}"), *lines, class_="card"))
        return join([hint(note), element("div", *cards, class_="cards")])
    return None


def _pictures(gallery: Gallery) -> list[Markup]:
    rows = []
    for name, pictures in gallery.pictures.items():
        images = (
            element("img", src=picture.uri, alt=f"A sample of {name}", width=picture.width, height=picture.height)
            for picture in pictures
        )
        rows.append(element("div", element("h3", name), element("div", *images, class_="tiles"), class_="class"))
    return rows
