"""What the API answers, as OpenAPI describes it."""

from typing import Optional

from pydantic import BaseModel, Field


class ClassAnswer(BaseModel):
    """One class and how likely it is."""

    index: int = Field(description="of the network's output")
    name: str
    probability: float = Field(ge=0, le=1)


class ImageAnswer(BaseModel):
    """The image as it was understood."""

    width: int = Field(description="pixels, upright")
    height: int
    format: str


class Milliseconds(BaseModel):
    """Where the time went."""

    receive: float
    decode: float = Field(description="decoding, resizing, and waiting for a process to do it")
    queue: float
    compute: float = Field(description="of the whole batch")


class ClassificationAnswer(BaseModel):
    """The likeliest classes."""

    classes: list[ClassAnswer] = Field(description="the likeliest first")
    image: ImageAnswer
    batch: int = Field(description="images computed together")
    milliseconds: Milliseconds


class ModelAnswer(BaseModel):
    """What is served."""

    model: str
    classes: list[str]
    image_size: tuple[int, int] = Field(description="height and width in pixels that images are brought to")
    channels: int
    backend: str
    explains: bool = Field(description="whether /v1/explain works")
    body_bytes: int
    pixels: int
    formats: list[str]
    recnext: str = Field(description="version")


class StatusAnswer(BaseModel):
    """Whether the server lives, or is ready."""

    status: str


class ErrorAnswer(BaseModel):
    """Why a request was not served."""

    error: str
    id: Optional[str] = Field(default=None, description="of the request in the log, where the server failed")
