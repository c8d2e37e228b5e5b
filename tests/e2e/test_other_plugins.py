"""Beside the plugins of others: their wrappers of fetch, their logins, their transports that pass fetch by."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from opencode_home import VERSION, until

from rlmctl.demo.opencode_home import spare_the_download

if TYPE_CHECKING:
    from opencode_home import Daemon, OpenCode

    from rlmctl.demo.providers import Providers

pytestmark = pytest.mark.opencode

LOGIN = """
    export const Login = async () => ({
      auth: {
        provider: "A",
        methods: [{ type: "api", label: "a key" }],
        loader: async () => ({
          apiKey: "",
          fetch: async (input, init) => {
            const headers = new Headers(init.headers)
            headers.set("x-api-key", "key-of-NAME")
            return fetch(input, { ...init, headers })
          },
        }),
      },
    })"""
"""A plugin that brings a provider's key and its own fetch, as those for plans do."""

PAST_FETCH = """
    import http from "node:http"
    const transport = (input, init) =>
      new Promise((resolve, reject) => {
        const headers = Object.fromEntries(new Headers(init.headers))
        const request = http.request(String(input), { method: "POST", headers }, (answer) => {
          const parts = []
          answer.on("data", (part) => parts.push(part))
          answer.on("end", () => {
            const { statusCode: status, headers } = answer
            resolve(new Response(Buffer.concat(parts), { status, headers }))
          })
        })
        request.on("error", reject)
        request.end(init.body)
      })
    export const Past = async () => ({
      auth: {
        provider: "A",
        methods: [{ type: "api", label: "a key" }],
        loader: async () => ({ apiKey: "key-A", fetch: transport }),
      },
    })"""
"""A plugin whose requests do not pass the global fetch."""


def add_plugin(opencode: OpenCode, providers: Providers, name: str, text: str) -> None:
    """Add a plugin that OpenCode loads before the shim (`first`) or after it (`last`)."""
    if name == "first":
        file = opencode.directory / "first.ts"
        opencode.configure(providers, default="A", plugin=[file.as_uri()])
    else:
        file = opencode.project / ".opencode" / "plugins" / "last.ts"
        file.parent.mkdir(parents=True)
        spare_the_download(file.parents[1], VERSION)
    file.write_text(text.replace("NAME", name))


def log_in(opencode: OpenCode) -> None:
    """Give OpenCode the login without which it asks no plugin for one."""
    place = opencode.directory / "data" / "opencode"
    place.mkdir(parents=True)
    (place / "auth.json").write_text(json.dumps({"A": {"type": "api", "key": "stored"}}))


def asked(providers: Providers) -> list[tuple[str, str]]:
    return [(request.provider, request.behaviour) for request in providers.requests]


def test_the_wrappers_of_others_see_every_request_and_no_mark(opencode: OpenCode, providers: Providers) -> None:
    wrapper = """
        import fs from "node:fs"
        export const Wrapper = async ({ directory }) => {
          const beneath = globalThis.fetch
          globalThis.fetch = Object.assign(async (input, init) => {
            if (String(input).includes("127.0.0.1")) fs.appendFileSync(directory + "/NAME.log", "seen\\n")
            return beneath(input, init)
          }, beneath)
          return {}
        }"""
    for name in ("first", "last"):
        add_plugin(opencode, providers, name, wrapper)
    providers.behave("A", ["429:60"])

    run = opencode.run()

    assert (run.code, run.out) == (0, "Hello from B, model m2, after 0 results")
    for name in ("first", "last"):
        assert (opencode.project / f"{name}.log").read_text().count("seen") == 2, name
    assert not any("rlmd" in value for request in providers.requests for value in request.headers.values())


@pytest.mark.parametrize("name", ["first", "last"])
def test_a_login_that_brings_its_own_fetch_works_as_ever(name: str, opencode: OpenCode, providers: Providers) -> None:
    log_in(opencode)
    add_plugin(opencode, providers, name, LOGIN)
    providers.behave("A", ["ok", "429:60"])

    run = opencode.run("USE_TOOL2 please")

    assert (run.code, run.out.splitlines()[-1]) == (0, "Hello from B, model m2, after 2 results")
    assert [request.key for request in providers.requests] == [f"key-of-{name}"] * 2 + ["key-B"] * 2


@pytest.mark.parametrize("name", ["first", "last"])
def test_requests_past_fetch_are_counted_and_their_limits_move_the_turn(
    name: str, opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    log_in(opencode)
    add_plugin(opencode, providers, name, PAST_FETCH)
    providers.behave("A", ["ok", "429:1"])
    with opencode.serve() as server:
        session = server.session()
        assert server.say(session, "USE_TOOL please") == "Hello from B, model m2, after 1 results"
        assert asked(providers) == [("A", "ok"), ("A", "429:1"), ("B", "ok")]
        server.assert_clean(session)
        assert server.answered_by(session) == ["A", "B"]
        until(lambda: daemon.counted() == {"A": (1, 1), "B": (1, 0), "C": (0, 0)})

        providers.requests.clear()
        daemon.ask("reset", what="all")
        providers.behave("A", ["402"])
        server.say(server.session(), "hello")
        assert asked(providers) == [("A", "402")], "OpenCode does not make it again"
        until(lambda: not daemon.provider("A")["available"])
        assert server.say(server.session(), "hello").startswith("Hello from B")


def test_a_request_past_fetch_that_nothing_is_told_of_ends_with_the_turn(
    opencode: OpenCode, daemon: Daemon, providers: Providers
) -> None:
    log_in(opencode)
    add_plugin(opencode, providers, "first", PAST_FETCH)
    providers.behave("A", ["slow:20"])
    with opencode.serve() as server, ThreadPoolExecutor() as pool:
        session = server.session()
        turn = pool.submit(server.say, session, "hello")
        until(lambda: len(providers.requests) == 1)
        server.abort(session)
        turn.result()
        until(lambda: daemon.provider("A")["in_flight"] == 0, patience=10)
        assert daemon.counted()["A"] == (1, 0)

        server.say(server.session(""), "hello")  # which has a title made, too
        until(lambda: daemon.provider("A")["in_flight"] == 0, patience=10)
        assert daemon.counted()["A"] == (3, 0)
