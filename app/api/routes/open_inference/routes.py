"""The Open Inference Protocol, version 2, with Triton's binary tensors and classification."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from app import __version__, errors
from app.api.bodies.json_body import offload
from app.api.bodies.responses import JSON, cache_header
from app.api.bodies.uploads import read_body
from app.api.documents.declarations import (
    OF_A_MODEL,
    OF_IMAGES,
    declare_answer,
    declare_body,
    declare_errors,
)
from app.api.documents.examples import INFERRED, OPEN_INFERENCE
from app.api.problems import ONE_STATUS, ErrorFormat, ErrorSentence, create_sentence
from app.api.routes.dependencies import LifecycleDep, TimeoutDep, get_record, get_service
from app.api.routes.open_inference import schemas
from app.api.routes.open_inference.tensors import IMAGE, VERSION, read_request, write_answer
from app.api.routing import Body, declare
from app.inference.answers import Outputs, require_all
from app.inference.image import PIXELS
from app.inference.plan import Plan
from app.inference.service import Service
from model.engines.base import Engine
from model.network.config import LOGITS, POOLED
from model.network.scores import softmax

_PROBABILITIES: Final = "probabilities"
_EMBEDDING: Final = "embedding"
_SOURCES: Final = {_PROBABILITIES: LOGITS, LOGITS: LOGITS, _EMBEDDING: POOLED}
"""The engine's output that each of the protocol's is made of."""

_OCTETS: Final = "application/octet-stream"
_HEADER_LENGTH: Final = "Inference-Header-Content-Length"
ERRORS: Final = ErrorFormat(
    "open_inference", ErrorSentence, create_sentence, "v2", statuses=ONE_STATUS
)
_MODEL_ERRORS: Final = declare_errors(ERRORS, *OF_A_MODEL, errors.NotFoundError)

router = APIRouter(tags=["Open Inference"])


@router.get("/v2", responses=declare_errors(ERRORS))
@router.get("/v2/", include_in_schema=False)
async def server_metadata() -> schemas.ServerMetadata:
    """What this server is."""
    extensions = ["binary_tensor_data", "classification"]
    return {"name": "mobilenet-serve", "version": __version__, "extensions": extensions}


@router.get("/v2/health/live", responses=declare_errors(ERRORS))
@router.api_route("/v2/health/live", methods=["GET", "HEAD"], include_in_schema=False)
@declare(public=True)
async def live() -> schemas.Live:
    """200 while the event loop runs."""
    return {"live": True}


@router.get("/v2/health/ready", responses=declare_errors(ERRORS, errors.NotReadyError))
@router.api_route("/v2/health/ready", methods=["GET", "HEAD"], include_in_schema=False)
@declare(public=True)
async def ready(lifecycle: LifecycleDep) -> schemas.Ready:
    """200 while requests are answered; see /readyz."""
    if not all(lifecycle.checks().values()):
        raise errors.NotReadyError
    return {"ready": True}


@router.get("/v2/models/{model:path}/ready", responses=_MODEL_ERRORS)
async def model_ready(request: Request, lifecycle: LifecycleDep, model: str) -> schemas.Ready:
    """200 while a model answers requests."""
    engine = _find(get_service(request), model)
    return {"name": engine.checkpoint.name, **await ready(lifecycle)}


@router.post(
    "/v2/models/{model:path}/infer",
    response_model=schemas.InferResponse,
    responses={
        **declare_errors(ERRORS, *OF_IMAGES, errors.NoClassifierError, errors.NotFoundError),
        **declare_answer(_OCTETS, example=INFERRED),
    },
    openapi_extra=declare_body({JSON: schemas.InferRequest, _OCTETS: bytes}, OPEN_INFERENCE),
)
@declare(body=Body.MANY_IMAGES)
async def infer_model(request: Request, timeout_s: TimeoutDep, model: str) -> Response:
    """Compute probabilities, logits and embeddings of one image or several."""
    service = get_service(request)
    engine = _find(service, model)
    checkpoint = engine.checkpoint
    body = await read_body(request)
    json_length = request.headers.get(_HEADER_LENGTH)
    wanted, images = await offload(
        len(body), read_request, body, json_length, checkpoint.preprocessing.input_size
    )
    outputs = wanted.outputs or [schemas.WantedOutput(name=name) for name in _widths(engine)]
    _check_outputs(engine, outputs)
    if wanted.parameters.timeout:
        timeout_s = min(timeout_s, wanted.parameters.timeout / 1e6)
    names = {output.name for output in outputs}
    plan = Plan(engine, frozenset(_SOURCES[name] for name in names))
    answers = await service.compute(images, plan, timeout_s, get_record(request))
    rows = require_all(
        answers, [f"{one.name}[{index}]" for one in wanted.inputs for index in range(one.shape[0])]
    )
    arrays = _stack(rows, names)
    size = sum(array.nbytes for array in arrays.values())
    content, length = await offload(size, write_answer, wanted, outputs, arrays, checkpoint)
    headers = cache_header([row.cache for row in rows])
    if length is None:
        return Response(content, media_type=JSON, headers=headers)
    headers[_HEADER_LENGTH] = str(length)
    return Response(content, media_type=_OCTETS, headers=headers)


@router.get("/v2/models/{model:path}", responses=_MODEL_ERRORS)
async def model_metadata(request: Request, model: str) -> schemas.ModelMetadata:
    """What a model takes, one of its inputs or both, and gives."""
    engine = _find(get_service(request), model)
    height, width = engine.checkpoint.preprocessing.input_size
    return {
        "name": engine.checkpoint.name,
        "versions": [VERSION],
        "platform": engine.name,
        "inputs": [
            {"name": IMAGE, "datatype": "BYTES", "shape": [-1]},
            {"name": PIXELS, "datatype": "UINT8", "shape": [-1, height, width, 3]},
        ],
        "outputs": [
            {"name": name, "datatype": "FP32", "shape": [-1, width]}
            for name, width in _widths(engine).items()
        ],
    }


def _find(service: Service, model: str) -> Engine:
    """The engine of a model by its path, which may end in `/versions/1`."""
    if model in service.engines:
        return service.engine(model)
    name, _, rest = model.partition("/versions/")
    if rest and "/" not in rest and name in service.engines:
        if rest != VERSION:
            raise errors.ModelNotFoundError(f"A model has one version, `{VERSION}`.")
        return service.engine(name)
    if any(model.startswith(f"{name}/") for name in service.engines):
        raise errors.NotFoundError
    raise errors.ModelNotFoundError


def _widths(engine: Engine) -> dict[str, int]:
    """Return how many numbers each output of a model has, by name."""
    config = engine.checkpoint.config
    classes = config.num_labels
    widths = {_PROBABILITIES: classes, LOGITS: classes, _EMBEDDING: config.num_features}
    return {name: width for name, width in widths.items() if width}


def _check_outputs(engine: Engine, outputs: Sequence[schemas.WantedOutput]) -> None:
    """Raise if a model cannot give these outputs."""
    names = {output.name for output in outputs}
    known = _widths(engine)
    if not names <= _SOURCES.keys():
        raise _refuse(f"An output is one of {', '.join(f'`{name}`' for name in known)}.")
    if not names <= known.keys():
        raise errors.NoClassifierError
    if any(one.name == _EMBEDDING and one.parameters.classification for one in outputs):
        raise _refuse(f"`{_EMBEDDING}` has no classes; leave out its `classification`.")
    if len(names) < len(outputs):
        raise _refuse("An output is named twice.")


def _refuse(why: str) -> errors.InvalidParameterError:
    return errors.InvalidParameterError(f"outputs: {why}", "outputs")


def _stack(rows: Sequence[Outputs], names: Collection[str]) -> Mapping[str, NDArray[np.float32]]:
    """Make the protocol's outputs, one row for each image."""
    arrays = {name: np.stack([row.arrays[_SOURCES[name]] for row in rows]) for name in names}
    if _PROBABILITIES in arrays:
        arrays[_PROBABILITIES] = softmax(arrays[_PROBABILITIES])
    return arrays
