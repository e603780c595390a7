"""/v1/experiments: read with the scope audit, decide with the scope admin. Files start them, not requests."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.auth import requires
from server.deciding import Desk
from server.keys import Key
from server.routes.durable import durable
from server.routes.generation import read_asked
from server.wire.experiments import (
    decided_object,
    experiment_list,
    experiment_object,
    read_promotion,
    read_rollback,
    read_stop,
)

router = APIRouter()
Auditor = Annotated[Key, Depends(requires("audit"))]
Admin = Annotated[Key, Depends(requires("admin"))]


@router.get("/v1/experiments", response_model=None)
async def list_experiments(request: Request, _: Auditor) -> Response:
    """Every experiment that was started, in the order of their starts."""
    desk: Desk = request.state.desk
    known = await asyncio.to_thread(desk.all)
    return JSONResponse(experiment_list([experiment_object(one, counts) for one, counts in known]))


@router.get("/v1/experiments/{experiment}", response_model=None)
async def retrieve(request: Request, experiment: str, _: Auditor) -> Response:
    """One of them: its arms, its state, who has met which."""
    desk: Desk = request.state.desk
    return JSONResponse(experiment_object(*await asyncio.to_thread(desk.get, experiment)))


@router.get("/v1/experiments/{experiment}/report", response_model=None)
async def report(request: Request, experiment: str, _: Auditor) -> Response:
    """The same as `fewshot experiment report --json`."""
    desk: Desk = request.state.desk
    return JSONResponse(await asyncio.to_thread(desk.report, experiment))


@router.post("/v1/experiments/{experiment}/promote", response_model=None)
@durable
async def promote(request: Request, experiment: str, key: Admin) -> Response:
    """Serve an arm to everybody; 409 unless it has won, or is equivalent with a reason, or is forced."""
    desk: Desk = request.state.desk
    asked = read_promotion(await read_asked(request), request.state.options.unknown_fields)
    made = await asyncio.to_thread(
        desk.promote, experiment, asked.arm, by=key.prefix, because=asked.reason, force=asked.force
    )
    return JSONResponse(decided_object(made))


@router.post("/v1/experiments/{experiment}/stop", response_model=None)
@durable
async def stop(request: Request, experiment: str, key: Admin) -> Response:
    """Traffic returns to what is served by default."""
    desk: Desk = request.state.desk
    asked = read_stop(await read_asked(request), request.state.options.unknown_fields)
    return JSONResponse(
        decided_object(await asyncio.to_thread(desk.stop, experiment, by=key.prefix, because=asked.reason))
    )


@router.post("/v1/experiments/{experiment}/rollback", response_model=None)
@durable
async def rollback(request: Request, experiment: str, key: Admin) -> Response:
    """Serve again what was served before this experiment's promotion."""
    desk: Desk = request.state.desk
    asked = read_rollback(await read_asked(request), request.state.options.unknown_fields)
    made = await asyncio.to_thread(desk.rollback, experiment, by=key.prefix, because=asked.reason)
    return JSONResponse(decided_object(made))
