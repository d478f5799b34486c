"""docling's rules of reading order, in a process of its own: pages of lines as JSON in, their order out.

docling gives these rules regions that a model finds on the page. Here they get lines, as ours do, so the order alone is
compared, and tables, which docling reads with another model, are at a disadvantage.
"""

import json
import sys

from docling.models.postprocessing.reading_order_rb import (  # type: ignore[import-not-found]
    PageElement,
    ReadingOrderPredictor,
)
from docling_core.types.doc.base import CoordOrigin, Size  # type: ignore[import-not-found]
from docling_core.types.doc.labels import DocItemLabel  # type: ignore[import-not-found]


def main() -> None:
    predictor = ReadingOrderPredictor()
    orders = []
    for page in json.load(sys.stdin):
        size = Size(width=page["width"], height=page["height"])
        elements = [
            PageElement(
                cid=number, page_no=1, page_size=size, label=DocItemLabel.TEXT, text="x",
                l=left, r=right, t=size.height - top, b=size.height - bottom, coord_origin=CoordOrigin.BOTTOMLEFT,
            )
            for number, (left, top, right, bottom) in enumerate(page["boxes"])
        ]  # fmt: skip
        orders.append([element.cid for element in predictor.predict_reading_order(elements)])
    json.dump(orders, sys.stdout)


if __name__ == "__main__":
    main()
