"""`onlinevpo serve`: reward models behind an HTTP API."""

from __future__ import annotations

import ipaddress
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from services.options import data_options, json_option, set_option
from services.outcome import EXIT_SIGINT, EXIT_SIGTERM, Outcome
from services.stdout import print_line, stdout_to_stderr

if TYPE_CHECKING:
    from services.serve_config import ServeConfig


@click.command()
@click.argument("config", required=False)
@set_option
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0: any free one.  [default: 8000]")
@data_options
@click.option("--unsafe-decode", is_flag=True, default=None, help="Decode even where decoders cannot be closed off.")
@json_option
def serve(config: str | None, overrides: tuple[str, ...], as_json: bool, **options: Any) -> Outcome:
    """Serve reward models over HTTP, as the file CONFIG says; without one the bundled model on this machine only.

    Prints one line when everything answers. The first start shows an API key, this once. Ctrl-C and SIGTERM finish what
    runs; SIGHUP reads CONFIG again and applies its models. See docs/serving.md.
    """
    from services.serving_config import load_serve_config

    def load() -> ServeConfig:
        return load_serve_config(config, overrides, options)

    loaded = load()
    for warning in _warnings(loaded):
        click.echo(f"warning: {warning}", err=True)
    with stdout_to_stderr():
        with _later(signal.SIGTERM, signal.SIGINT):  # an import that is interrupted may leave half a module
            from services.serving.run import run
        ended = run(loaded, load, lambda facts: print_line(json.dumps(facts) if as_json else _ready_text(facts)))
    return Outcome(json=[], text="", exit_code=EXIT_SIGINT if ended == signal.SIGINT else EXIT_SIGTERM)


@contextmanager
def _later(*numbers: signal.Signals) -> Iterator[None]:
    """Signals that come in the block have their effect after it."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for one in received:
        signal.raise_signal(one)


def _ready_text(facts: dict[str, Any]) -> str:
    text = f"Serving {', '.join(facts['models'])} at {facts['url']} (API: {facts['url']}/docs)"
    return f"{text}; the first API key, shown only now: {facts['key']}" if "key" in facts else text


def _warnings(config: ServeConfig) -> list[str]:
    try:
        is_here = ipaddress.ip_address(config.host).is_loopback
    except ValueError:
        is_here = config.host == "localhost"
    warnings = []
    if not is_here:
        warnings.append(
            f"{config.host} can be reached from other machines, and this service speaks plain HTTP: keys and videos "
            "can be read on the way; put a proxy with TLS before it"
        )
    if config.unsafe_decode:
        warnings.append(
            "unsafe_decode: where the kernel cannot close a decoder off, videos may do what FFmpeg's bugs let"
        )
    return warnings
