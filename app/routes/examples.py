"""Bodies that work as they are, for the OpenAPI document: what /docs fills in."""

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
"""A cup of coffee from above, a JPEG of 40x40 pixels and 673 bytes, in base64."""
_URI: Final = f"data:image/jpeg;base64,{IMAGE}"

ONE_IMAGE: Final[dict[str, Any]] = {"image": IMAGE}
TWO_IMAGES: Final[dict[str, Any]] = {"images": [IMAGE, _URI]}
HUGGING_FACE: Final[dict[str, Any]] = {"inputs": IMAGE, "parameters": {"top_k": 3}}
OPENAI: Final[dict[str, Any]] = {"model": "the first that is served", "input": _URI}
"""Its model is filled in when the document is built."""
OPEN_INFERENCE: Final[dict[str, Any]] = {
    "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [IMAGE]}],
    "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}],
}
