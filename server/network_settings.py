"""Where a server listens and what it takes, and how far it bears with those who connect."""

from typing import Annotated, Literal

from pydantic import Field

from server.section import Origins, Section


class Server(Section):
    host: str = Field("127.0.0.1", description="address to listen on; beyond loopback needs auth.enabled")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="0 picks a free port")
    public_url: str | None = Field(None, description="how clients reach this server; used in citations")
    unknown_fields: Literal["refuse", "report"] = Field(
        "refuse", description="unknown body fields: 400, or skip and list them"
    )
    unit_header: str | None = Field(None, description="trusted header that names the experiment unit")
    deadline_seconds: float = Field(300, gt=0, le=3600, description="longest life of one request")
    drain_seconds: float = Field(30, ge=0, description="after SIGTERM, time for admitted requests to finish")
    running: int | None = Field(
        None, ge=1, description="requests inside the engine at once; default engine.batch"
    )
    queue: int = Field(256, ge=0, description="requests that may wait; more get 429")
    coalesce_seconds: float = Field(
        0.02, ge=0, le=1, description="under load tokens wait so long at most for later ones; 0: never"
    )
    body_bytes: int = Field(4 * 2**20, ge=1024, description="largest JSON body")
    upload_bytes: int = Field(100 * 2**20, ge=1024, description="largest uploaded file")
    metrics_port: int = Field(
        9464, ge=0, le=65535, description="own loopback port of /metrics when host is not loopback"
    )
    openapi: bool = Field(True, description="serve /openapi.json")
    cors_origins: Origins | None = Field(None, description="sites whose pages may call from a browser, or *")


# What the parts bear with that are not given a setting: tests, and whoever builds an application by hand.
MOST_CONNECTIONS = 2000
HEAD_SECONDS: float = 30
BODY_SECONDS: float = 30
BODIES_BYTES = 256 * 2**20  # 64 bodies of the largest size
STALLED_SECONDS: float = 30


class Connections(Section):
    most: int = Field(
        MOST_CONNECTIONS,
        ge=8,
        description="open at once; beyond them the longest idle one is closed, or the newcomer gets 429",
    )
    head_seconds: float = Field(HEAD_SECONDS, gt=0, description="for a request's head, from its first byte")
    body_seconds: float = Field(BODY_SECONDS, gt=0, description="for a JSON body; longer ones get 408")
    bodies_bytes: int = Field(
        BODIES_BYTES, ge=2**20, description="of JSON bodies that are being read, all together; more get 429"
    )
    stalled_seconds: float = Field(
        STALLED_SECONDS, gt=0, description="a stream whose reader takes nothing for so long is dropped"
    )
