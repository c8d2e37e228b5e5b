// OpenCode 1.x with several of each in one process: requests of a session, sessions, projects, plugins.

import assert from "node:assert/strict"
import { afterEach, beforeEach, test } from "node:test"
import { hostOf } from "./host1.mjs"
import {
  ANSWER,
  B,
  clock,
  daemonOf,
  providersOf,
  recorded,
  reply,
  send,
  until,
  use,
} from "./stage.mjs"

const TAG = "x-amzn-trace-id"
const bare = globalThis.fetch
const served = new RegExp(ANSWER)
let providers, host, daemon, live
beforeEach(async () => {
  providers = await providersOf()
  host = hostOf(providers)
  live = { providerID: "A", id: "m1" }
})
afterEach(async () => {
  await host.end()
  await daemon?.end()
  await providers.end()
  daemon = undefined
})

async function begin(answer) {
  daemon = await daemonOf(answer)
  await host.begin()
  await until(host.hasStatus)
}
const ended = () => daemon.said("report").filter(({ outcome }) => outcome !== "accepted")
const told = () => ended().map(({ outcome, lease }) => [outcome, lease])
const event = (type, properties) => host.tell("event", { event: { type, properties } })
const idle = (sessionID) => event("session.idle", { sessionID })
/** What OpenCode says before it makes a request, as it does so from the catalogue's own object. */
async function announce({ sessionID = "s", agent = "build", model = live, models } = {}) {
  const provider = { models: models ?? { [model.id]: model } }
  const headers = {}
  await host.tell("chat.headers", { sessionID, agent, model, provider }, { headers })
  return headers
}
const step = async (sessionID = "s") => {
  const model = { providerID: "A", modelID: "m1" }
  const info = { role: "user", sessionID, agent: "build", model }
  await host.tell("experimental.chat.messages.transform", {}, { messages: [{ info, parts: [] }] })
}
const ask = (headers, provider = "A") => send(globalThis.fetch, providers.url(provider), headers)

test("two titles of a session at once are two requests, each with its own outcome", async () => {
  await begin()
  providers.queues.A = ["429"]
  const [one, other] = [await announce({ agent: "title" }), await announce({ agent: "summary" })]
  assert.equal((await ask(one)).status, 429)
  assert.match(await (await ask(other)).text(), served)
  await until(() => ended().length === 2)

  assert.deepEqual(told(), [
    ["error", "lease 1"],
    ["ok", "lease 2"],
  ])
})

test("of a step that is announced anew each lease that is not used is given back", async () => {
  await begin()
  for (let time = 0; time < 3; time++) await step()
  const response = await ask(await announce())
  await response.text()
  await until(() => ended().length === 3)

  assert.deepEqual(told().sort(), [
    ["ok", "lease 3"],
    ["unsent", "lease 1"],
    ["unsent", "lease 2"],
  ])
})

test("a daemon that knows only one way holds no request: it is asked twice at most", async () => {
  const elsewhere = { provider: "C", model: "m9" } // OpenCode has none of this name
  await begin({
    acquire: ({ purpose }) => purpose === "step" && use(elsewhere, { lease: "elsewhere" }),
  })
  assert.match(await (await ask(await announce())).text(), served)
  await until(() => ended().some(({ outcome }) => outcome === "ok"))

  assert.ok(daemon.said("acquire").length <= 2)
  assert.equal(ended().filter(({ outcome }) => outcome === "unsent").length, 1)
})

test("the end of a sub-agent does not keep its parent, or anybody else, from switching within a turn", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  const models = { m1: live }
  const begun = (sessionID) => announce({ sessionID, model: models.m1, models }) // as the catalogue has it
  for (let time = 0; time < 5; time++) {
    await (await ask(await begun("parent"))).text()
    await (await ask(await begun("child"))).text()
    providers.queues.A = ["overloaded"]
    const response = await ask(await begun("parent"))
    const part = { type: "tool", sessionID: "parent", state: { status: "running" } }
    await event("message.part.updated", { part })
    await response.text() // it breaks off, and the next step is led to B
    await idle("child") // so what the catalogue hands out is A again
    await (await ask(await begun("parent"))).text()
    await idle("parent")
  }
  providers.queues.A = ["429"]

  assert.equal((await ask(await begun("other"))).headers.get("retry-after-ms"), "0")
  assert.deepEqual(host.toasts, [])
})

test("an OpenCode that hands out the old model is left alone after two times, and tried again later", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  const refused = async () => {
    providers.queues.A = ["429"]
    const copy = { ...live } // of no catalogue
    const { headers } = await ask(await announce({ model: copy, models: {} }))
    return headers.get("retry-after-ms")
  }
  const waits = []
  for (let time = 0; time < 6; time++) waits.push(await refused())

  assert.deepEqual(waits, ["0", "0", null, null, null, null])
  clock.ms += 10 * 60_000 + 1
  assert.equal(await refused(), "0")
  assert.deepEqual(host.toasts, ["This OpenCode does not follow a switch within a turn."])
})

test("a plugin that puts an older fetch back is noticed: the next request but one is led again", async () => {
  await begin()
  globalThis.fetch = bare
  await (await ask(await announce())).text()
  const tokens = { input: 1, output: 1, reasoning: 0, cache: { read: 0, write: 0 } }
  const part = { type: "step-finish", sessionID: "s", tokens, cost: 0 }
  await event("message.part.updated", { part })
  await until(() => ended().length === 1)
  assert.deepEqual(told(), [["ok", "lease 1"]])

  await (await ask(await announce())).text()
  await until(() => ended().length === 2)
  assert.equal(providers.requests.at(-1).headers[TAG], undefined)
  assert.equal(daemon.said("report").filter(({ outcome }) => outcome === "accepted").length, 1)
})

test("a transport that passes fetch by gets no tag once three of its requests have been answered", async () => {
  await begin()
  const tokens = { input: 1, output: 1, reasoning: 0, cache: { read: 0, write: 0 } }
  const tags = []
  for (let time = 0; time < 5; time++) {
    tags.push(TAG in (await announce({ model: { providerID: "W", id: "m1" } })))
    const part = { type: "step-finish", sessionID: "s", tokens, cost: 0 }
    await event("message.part.updated", { part })
  }
  await until(() => ended().length === 5)

  assert.deepEqual(tags, [true, true, true, false, false])
  assert.deepEqual(
    told().map(([outcome]) => outcome),
    ["ok", "ok", "ok", "ok", "ok"],
  )
})

test("a header of that name that a person has set stays, and the request is counted from events", async () => {
  await begin()
  const own = { ...live, headers: { "X-Amzn-Trace-Id": "Root=1-2" } }
  assert.deepEqual(await announce({ model: own }), {})
  assert.ok(TAG in (await announce()))
})

test("a warning that concerns three projects of a process is told once", async () => {
  await begin()
  for (let time = 0; time < 2; time++) {
    await host.begin()
    await until(host.hasStatus)
  }
  assert.equal(daemon.connections.size, 3)
  const warning = { type: "event", event: "warning", message: "The disk is full", model: null }
  daemon.push(reply("event", { ...warning, session: undefined, to: undefined }))
  await until(() => host.toasts.length > 0)
  await daemon.hasAnswered()

  assert.deepEqual(host.toasts, ["The disk is full"])
})

test("where OpenCode makes a second instance for a directory, the first one goes on leading its sessions", async () => {
  daemon = await daemonOf({ acquire: ({ purpose }) => purpose === "step" && use(B) })
  const first = await host.begin()
  await until(host.hasStatus)
  await host.begin()
  await until(host.hasStatus)
  const headers = {}
  const about = { sessionID: "s", agent: "build", model: live, provider: { models: { m1: live } } }
  await first["chat.headers"](about, { headers })

  assert.equal((await ask(headers)).headers.get("retry-after-ms"), "0")
  assert.equal(live.providerID, "B")
})

test("an agent is known by its name, also where OpenCode up to 1.3.2 hands out the whole agent", async () => {
  await begin()
  for (const agent of ["build", { name: "build", mode: "primary" }]) await announce({ agent })
  await until(() => daemon.said("acquire").length === 2)

  assert.deepEqual(
    daemon.said("acquire").map(({ agent }) => agent),
    ["build", "build"],
  )
})

test("what OpenCode adds to a message after its turn tells nobody of anything", async () => {
  await begin()
  await (await ask(await announce())).text()
  await idle("s")
  const info = { role: "assistant", sessionID: "s", providerID: "A", modelID: "m1", time: {} }
  await event("message.updated", { info })
  const switched = { type: "event", event: "switched", message: "A rests; using B", session: "s" }
  daemon.push(reply("event", switched))
  await daemon.hasAnswered()

  assert.deepEqual(host.toasts, [])
})
