"""Example bodies that work as they are, and their responses, for /docs."""

from __future__ import annotations

from typing import Any, Final

IMAGE: Final = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVG"
    "ZIhlbXd7gYKBTmCNl4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8"
    "fHx8fHx8fHx8fHx8fHx8fHx8fHz/wAARCAAoACgDASIAAhEBAxEB/8QAGQAAAwEBAQAAAAAAAAAAAAAAAAQFAwIG/8QA"
    "LRAAAgEDAgQFAgcAAAAAAAAAAQIDAAQREiEFMUFREyIyYXFywSMkUmKBkfD/xAAZAQEAAwEBAAAAAAAAAAAAAAADAAIE"
    "AQX/xAAdEQADAAIDAQEAAAAAAAAAAAAAAQIRIQMSMTJB/9oADAMBAAIRAxEAPwBKC2S3xgZfuedV47CKIK15l5CMiMHA"
    "X5Peo6yhZVZslVYE+4zVjiRmkvG8H0Phg/Qg8sVizhZZ6NS1iUMrBZSbeAo+lzmlrqwMIDxEyRE45bqfel1guUORNk9i"
    "NqfjuylhcSyr6Exg9WzsKic1oo1U+E8eXds0VyGEqhgTpP8AsUVURk0aFUlz8AVtZ8bNrGIpFFxADspOGT4P2pGc611L"
    "6WGVx2pcTBbQxIBqY5Ykbj+aWZJyM9EOO2WMrbXJb9Opcf3Sl1xJ74KnljjVsiJMkZ7k9TUS0P5qIFyoLAEjmKp3qRpf"
    "KIcgDAYas426nvVnCnwGazSGbV2UlQdjRWIfS6qOZ3PsKKHA/J9aF722n4ROY3TxLZzlSfsehpFxFNJlXCL+/aiitM7W"
    "TL2a1+HQt4xu88ePqrQXMUO0AMr8styooqYz6dd9XpDtjC5/ElOS25J60UUUFPYqWj//2Q=="
)
"""A cup of coffee seen from above: a JPEG of 40x40 pixels and 673 bytes, in base64."""
_URI: Final = f"data:image/jpeg;base64,{IMAGE}"

REQUEST_ID: Final = "cdcef80fd92e445fbfa48537be1df70d"

ONE_IMAGE: Final[dict[str, Any]] = {"image": IMAGE}
TWO_IMAGES: Final[dict[str, Any]] = {"images": [IMAGE, _URI]}
HUGGING_FACE: Final[dict[str, Any]] = {"inputs": IMAGE, "parameters": {"top_k": 3}}
OPENAI: Final[dict[str, Any]] = {"model": "the first that is served", "input": _URI}
"""The model is filled in when the document is built."""
OPEN_INFERENCE: Final[dict[str, Any]] = {
    "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [IMAGE]}],
    "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}],
}

CLASSIFIED: Final[dict[str, Any]] = {
    "model": "mobilenet_v1_1.0_224",
    "predictions": [
        {"class_id": 968, "wnid": "n07920052", "label": "espresso", "score": 0.6913},
        {"class_id": 926, "wnid": "n07584110", "label": "consomme", "score": 0.1605},
        {"class_id": 634, "wnid": "n03692522", "label": "loupe, jeweler's loupe", "score": 0.1011},
        {"class_id": 970, "wnid": "n07932039", "label": "eggnog", "score": 0.0245},
        {"class_id": 902, "wnid": "n04579145", "label": "whiskey jug", "score": 0.0039},
    ],
    "timing_ms": {"decode": 0.8, "queue": 0.11, "inference": 3.91, "total": 14.262},
    "batch_size": 1,
    "request_id": REQUEST_ID,
}
"""The response to `ONE_IMAGE`."""
SCORED: Final = [
    {"label": one["label"], "score": one["score"]} for one in CLASSIFIED["predictions"][:3]
]
"""The response to `HUGGING_FACE`."""
INFERRED: Final[dict[str, Any]] = {
    "model_name": "mobilenet_v1_1.0_224",
    "model_version": "1",
    "outputs": [
        {
            "name": "probabilities",
            "datatype": "BYTES",
            "shape": [1, 3],
            "data": [
                "0.691275:968:espresso",
                "0.160460:926:consomme",
                "0.101125:634:loupe, jeweler's loupe",
            ],
        }
    ],
}
"""The response to `OPEN_INFERENCE`."""
