"""Peers of our service: the same booster with given features, behind bare Starlette and plain BentoML.

Belongs here: the least code that answers. Must not be here: code of this project.
"""

import json
import os

import bentoml
import numpy as np
import xgboost as xgb
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

booster = xgb.Booster()
if path := os.environ.get("BOOSTER"):
    booster.load_model(path)
booster.set_param({"nthread": 1})


def probability(features: list[float | None]) -> float:
    return float(booster.inplace_predict(np.array([features], np.float32))[0])


async def predict(request: Request) -> Response:
    body = json.loads(await request.body())
    return JSONResponse({"probability": probability(body["features"])})


async def ready(_request: Request) -> Response:
    return JSONResponse({})


app = Starlette(routes=[Route("/predict", predict, methods=["POST"]), Route("/ready", ready)])


@bentoml.service
class Plain:
    """A BentoML service as in its tutorial."""

    @bentoml.api  # type: ignore[untyped-decorator]  # BentoML ships no types of it
    def predict(self, features: list[float | None]) -> dict[str, float]:
        return {"probability": probability(features)}
