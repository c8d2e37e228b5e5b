// OpenCode 1.x: a recorded turn of the real 1.18.33, a real fetch, a daemon that may be slow or gone.

import assert from "node:assert/strict"
import { cpSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { afterEach, beforeEach, test } from "node:test"
import { fileURLToPath, pathToFileURL } from "node:url"
import { hostOf } from "./host1.mjs"
import {
  A,
  ANSWER,
  B,
  KEY,
  PROMPT,
  clock,
  daemonOf,
  everyLine,
  patient,
  providersOf,
  recorded,
  reply,
  send,
  until,
  use,
  waits,
} from "./stage.mjs"

const bare = globalThis.fetch
const served = new RegExp(ANSWER)
const STEPS = 3 // the requests of the recorded turn: a title, a tool call, the answer
let providers, host, daemon
beforeEach(async () => {
  providers = await providersOf()
  host = hostOf(providers)
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

/** What a daemon says that sends a request to B: a lease there, unless it was to be for elsewhere. */
const useB = ({ lease_for }) =>
  use(B, { lease: (lease_for ?? B).provider === "B" ? "b" : undefined })

const hasty = { hello: () => patient(150) }
/** The start of a turn, which asks the daemon where there is one. */
const prompt = () => {
  const message = { model: { providerID: "A", modelID: "m1" } }
  return host.tell("chat.message", { sessionID: "s" }, { message, parts: [{ type: "text" }] })
}

const ended = (of = daemon) => of.said("report").filter(({ outcome }) => outcome !== "accepted")

test("the recorded turn: asked for, announced, reported once, its tokens told", async () => {
  await begin()
  const answers = await host.turn()
  await until(() => ended().length === STEPS)

  for (const { text } of answers) assert.match(text, served)
  assert.deepEqual(providers.asked(), ["A", "A", "A"])
  const purposes = daemon.said("acquire").map(({ purpose, agent }) => [purpose, agent])
  assert.deepEqual(purposes.slice(1), [
    ["aux", "title"],
    ["step", "build"],
    ["step", "build"],
  ])
  assert.equal(purposes[0][0], "turn")
  assert.equal(await waits(prompt), true) // for the daemon's word
  const leases = ended().map(({ outcome, lease }) => [outcome, lease])
  assert.deepEqual(
    leases,
    [1, 2, 3].map((number) => ["ok", `lease ${number}`]),
  )
  const usage = daemon.said("usage").map(({ usage: { input, output } }) => [input, output])
  assert.deepEqual(usage, [
    [100, 20],
    [100, 20],
  ])
})

test("a limit in the middle of the turn: the step goes on with the next provider, at once", async () => {
  const moved = () => daemon.said("report").some(({ outcome }) => outcome === "error")
  await begin({
    report: ({ outcome }) => outcome === "error" && recorded(use(B)),
    acquire: (asked) => asked.purpose === "step" && moved() && useB(asked),
  })
  providers.queues.A = ["ok", "429"]
  const answers = await host.turn()

  for (const { text } of answers) assert.match(text, served)
  assert.deepEqual(providers.asked(), ["A", "A", "B", "B"])
  assert.deepEqual(host.waits, [0])
  const [failed, ...more] = ended().filter(({ outcome }) => outcome === "error")
  assert.deepEqual(more, [])
  assert.equal(JSON.parse(failed.body).error.message.length, 500)
  assert.equal(failed.status, 429)
  const { date, ...headers } = failed.headers
  assert.ok(date)
  assert.deepEqual(headers, { "content-type": "application/json", "retry-after": "60" })
})

test("a step is asked for while OpenCode makes it ready; the lease of one that is not made is given back", async () => {
  await begin()
  const info = { role: "user", sessionID: "s", agent: "build" }
  const model = { providerID: "A", modelID: "m1" }
  const messages = [{ info: { ...info, model }, parts: [] }]
  const answered = () => daemon.said("acquire").length === 1
  await host.tell("experimental.chat.messages.transform", {}, { messages })
  await until(answered)
  const live = { providerID: "A", id: "m1" }
  const about = { sessionID: "s", agent: "build", model: live, provider: { models: { m1: live } } }
  const headers = {}
  await host.tell("chat.headers", about, { headers })
  await (await send(globalThis.fetch, providers.url("A"), headers)).text()
  await until(() => ended().length === 1)
  assert.equal(ended()[0].lease, "lease 1")
  assert.ok(answered())

  await host.tell("experimental.chat.messages.transform", {}, { messages })
  const idle = { type: "session.idle", properties: { sessionID: "s" } }
  await host.tell("event", { event: idle })
  await until(() => ended().length === 2)
  const { outcome, provider, lease } = ended()[1]
  assert.deepEqual([outcome, provider, lease], ["unsent", "A", "lease 2"])
})

test("a turn that has ended is not moved by what is said of it later", async () => {
  const idle = { type: "session.idle", properties: { sessionID: "ses_1" } }
  const stopped = () => void host.tell("event", { event: idle })
  await begin({
    report: ({ outcome }) => outcome === "error" && (stopped(), recorded(use(B))),
  })
  providers.queues.A = ["ok", "429"]
  await host.turn()

  assert.deepEqual(new Set(providers.asked()), new Set(["A"]))
})

test("what others find out while OpenCode makes a request is asked for before it is sent", async () => {
  let steps = 0 // the first word is A; whoever asks again hears of B
  await begin({ acquire: (asked) => asked.purpose === "step" && ++steps > 1 && useB(asked) })
  Object.assign(host, { busy: 41, answered: daemon.hasAnswered })
  for (const { text } of await host.turn()) assert.match(text, served)

  assert.deepEqual(providers.asked(), ["A", "B", "B"]) // the title first
  const unsent = daemon.said("report").filter(({ outcome }) => outcome === "unsent")
  assert.deepEqual(
    unsent.map(({ lease }) => lease),
    ["lease 1", "lease 3", "b", "b"],
  )
})

test("what was reserved for a request is free again before the request is asked for anew", async () => {
  const reserved = new Set() // there is one place at A
  const onlyOne = ({ purpose, lease_for }) => {
    if (purpose !== "step") return
    if (reserved.size > 0) return useB({ lease_for })
    const lease = `the only one ${daemon.lines.length}`
    reserved.add(lease)
    return use(A, { lease })
  }
  const free = ({ lease }) => void reserved.delete(lease)
  await begin({ acquire: onlyOne, report: free })
  Object.assign(host, { busy: 41, answered: daemon.hasAnswered })
  for (const { text } of await host.turn()) assert.match(text, served)

  assert.deepEqual(providers.asked(), ["A", "A", "A"])
})

test("a request with a model of its own is asked for anew: what is known of the turn's model says nothing of it", async () => {
  await begin()
  const info = { role: "user", sessionID: "s", agent: "build" }
  const messages = [{ info: { ...info, model: { providerID: "A", modelID: "m1" } }, parts: [] }]
  await host.tell("experimental.chat.messages.transform", {}, { messages })
  await daemon.hasAnswered()
  const live = { providerID: "B", id: "m2" }
  const provider = { models: { m2: live } }
  const about = { sessionID: "s", agent: "compaction", model: live, provider }
  const headers = {}
  await host.tell("chat.headers", about, { headers })
  const response = await send(globalThis.fetch, providers.url("B"), headers)
  assert.match(await response.text(), served)
  await until(() => ended().length === 2)

  assert.equal(live.providerID, "B")
  const told = ended().map(({ outcome, provider, lease }) => [outcome, provider, lease])
  assert.deepEqual(told.sort(), [
    ["ok", "B", "lease 2"],
    ["unsent", "A", "lease 1"],
  ])
})

test("where a model cannot be changed, OpenCode gets what the provider said", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  providers.queues.A = ["429"]
  const live = Object.freeze({ providerID: "A", id: "m1" })
  const provider = { models: { m1: live } }
  const headers = {}
  const about = { sessionID: "s", agent: "build", model: live, provider }
  await host.tell("chat.headers", about, { headers })
  const { status, headers: told } = await send(globalThis.fetch, providers.url("A"), headers)

  assert.deepEqual([status, told.get("retry-after")], [429, "60"])
  assert.equal(ended().length, 1)
})

test("sessions of one process are on different providers", async () => {
  const onB = new Set(["ses_2", "ses_4"])
  await begin({
    acquire: (asked) => onB.has(asked.session) && asked.purpose === "step" && useB(asked),
  })
  await Promise.all(["ses_1", "ses_2", "ses_3", "ses_4"].map((session) => host.turn(session)))

  const accepted = () => daemon.said("report").filter(({ outcome }) => outcome === "accepted")
  await until(() => accepted().length === 4 * STEPS)
  const steps = accepted()
  const wrong = steps.filter(
    ({ session, provider, lease }) => lease === "b" && !(onB.has(session) && provider === "B"),
  )
  assert.deepEqual(wrong, [])
  assert.equal(steps.filter(({ lease }) => lease === "b").length, 4)
})

test("sessions that began with one object of the catalogue do not take each other's moves for a copy", async () => {
  await begin({
    acquire: (asked) => asked.session === "moved" && useB(asked),
  })
  const live = { providerID: "A", id: "m1" }
  const provider = { models: { m1: live } }
  const announce = async (sessionID) => {
    const headers = {}
    await host.tell(
      "chat.headers",
      { sessionID, agent: "build", model: live, provider },
      { headers },
    )
    return headers
  }
  const headers = await announce("moved")
  await announce("other")
  const { status } = await send(globalThis.fetch, providers.url("A"), headers)
  assert.deepEqual([status, live.providerID], [429, "B"])
  const idle = { type: "session.idle", properties: { sessionID: "other" } }
  await host.tell("event", { event: idle })
  assert.equal(live.providerID, "A")
  await announce("moved")

  assert.deepEqual(
    host.toasts.filter((text) => /does not follow/.test(text)),
    [],
  )
})

test("all limited: OpenCode waits as long as the daemon says, or ends the turn with the times", async () => {
  const waiting = (ms) =>
    reply("wait", { retry_after_ms: ms, message: "until 17:30", brief: "A rests" })
  let first = true
  const soon = () => first && ((first = false), waiting(20))
  await begin({ acquire: ({ purpose }) => purpose === "step" && soon() })
  for (const { text } of await host.turn()) assert.match(text, served)
  assert.deepEqual(host.waits, [20])

  await daemon.end()
  daemon = await daemonOf({ acquire: ({ purpose }) => purpose === "step" && waiting(120_001) })
  await until(host.hasStatus)
  const { status, error } = (await host.turn()).at(-1)
  assert.equal(status, 400)
  assert.match(error, /A rests/)
})

test("a word that nobody is left, which OpenCode let wait, is asked for again", async () => {
  const nobody = reply("wait", { retry_after_ms: null, brief: "A rests" })
  await begin({ acquire: ({ purpose, lease_for }) => purpose === "step" && !lease_for && nobody })
  assert.equal((await host.turn()).at(-1).status, 400)
  Object.assign(host, { busy: 41, answered: daemon.hasAnswered })
  for (const { text } of await host.turn()) assert.match(text, served)
})

test("a request past fetch that fails before the daemon has answered is reported under its lease", async () => {
  await begin()
  daemon.delay = 20
  const model = { providerID: "A", id: "m1" }
  const provider = { models: { m1: model } }
  const about = { sessionID: "ses_1", agent: "build", model, provider }
  await host.tell("chat.headers", about, { headers: {} })
  const error = { name: "APIError", data: { message: "Too low", statusCode: 402 } }
  const failed = { type: "session.error", properties: { sessionID: "ses_1", error } }
  await host.tell("event", { event: failed })

  const told = daemon.said("report").map(({ lease, status }) => [lease, status])
  assert.deepEqual(told, [["lease 1", 402]])
})

test("requests past fetch that nothing is told of end with the turn: a title, a step that a person stops", async () => {
  await begin()
  const model = { providerID: "A", id: "m1" }
  const about = { sessionID: "ses_1", agent: "build", model, provider: { models: { m1: model } } }
  await host.tell("chat.headers", { ...about, agent: "title" }, { headers: {} })
  await host.tell("chat.headers", about, { headers: {} })
  const idle = { type: "session.idle", properties: { sessionID: "ses_1" } }
  await host.tell("event", { event: idle })
  await until(() => ended().length === 2)

  const told = ended().map(({ lease, outcome }) => [lease, outcome])
  assert.deepEqual(told.sort(), [
    ["lease 1", "cancelled"],
    ["lease 2", "cancelled"],
  ])
})

test("what OpenCode tells of a request that has ended is not looked at: a long session has megabytes", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  let looks = 0
  const info = { role: "user", sessionID: "s", model: { providerID: "A", modelID: "m1" } }
  const messages = [{ info, parts: [], toJSON: () => ++looks }]
  await host.tell("experimental.chat.messages.transform", {}, { messages })
  const live = { providerID: "A", id: "m1" }
  const about = { sessionID: "s", agent: "build", model: live, provider: { models: { m1: live } } }
  const headers = {}
  await host.tell("chat.headers", about, { headers })
  providers.queues.A = ["429"]
  await send(globalThis.fetch, providers.url("A"), headers)
  clock.ms += 1
  const status = { type: "retry", attempt: 1, message: "again", next: clock.ms }
  const retry = { type: "session.status", properties: { sessionID: "s", status } }
  await host.tell("event", { event: retry })
  const error = { name: "APIError", data: { message: "again", statusCode: 429 } }
  const failed = { type: "session.error", properties: { sessionID: "s", error } }
  await host.tell("event", { event: failed })

  assert.equal(looks, 0)
})

test("a status that cannot be shown in the session is no prompt for a model", async () => {
  await begin()
  for (const missing of ["prompt", "status"]) {
    delete host.client.session[missing] // as OpenCode 1.0 has it
    host.toasts.length = 0
    const about = { command: "rate_limit_status", sessionID: "s" }
    await assert.rejects(host.tell("command.execute.before", about, { parts: [] }))
    assert.deepEqual(host.toasts, [reply("status").text])
  }
})

test("without a daemon nothing waits and nothing is lost", async () => {
  await host.begin()
  for (const { text } of await host.turn()) assert.match(text, served)

  assert.deepEqual(providers.asked(), ["A", "A", "A"])
  assert.equal(await waits(prompt), false)
})

test("a slow daemon is not waited for beyond the deadline", async () => {
  await begin(hasty)
  await host.turn()
  daemon.delay = 5_000
  for (const { text } of await host.turn()) assert.match(text, served)

  assert.ok(daemon.late > 0) // the turn has ended, and the daemon has not answered yet
})

test("a daemon that hangs is asked once, and no more until it speaks", async () => {
  await begin(hasty)
  await host.turn()
  const before = daemon.said("acquire").length
  daemon.silent = true
  for (const { text } of await host.turn()) assert.match(text, served)

  assert.equal(daemon.said("acquire").length, before + 1)
  assert.equal(await waits(prompt), false)
})

test("garbage is no answer", async () => {
  for (const garbage of ["no JSON", "[]", "null", '{"type":"use"}', "x".repeat(300_000)]) {
    await begin(hasty)
    daemon.garbage = garbage
    for (const { text } of await host.turn()) assert.match(text, served)
    await host.end()
    await daemon.end()
  }
  daemon = undefined
})

test("a daemon that starts later is found by the next turn", async () => {
  await host.begin()
  await host.turn()
  daemon = await daemonOf()
  await until(host.hasStatus)
  await host.turn()

  assert.equal(daemon.said("acquire").filter(({ purpose }) => purpose === "turn").length, 1)
})

test("a report that got no answer is made again, once, to the daemon that comes next", async () => {
  const leases = {
    acquire: ({ purpose }) => purpose !== "turn" && use(A, { lease: `held ${++number}` }),
  }
  let number = 0
  await begin(leases)
  const silentAt = { report: () => void (daemon.silent = true) }
  await host.turn()
  const told = ended().map(({ lease }) => lease)
  await daemon.hasAnswered()
  await daemon.end()
  daemon = await daemonOf({ ...hasty, ...leases, ...silentAt })
  await until(host.hasStatus)
  await host.turn()
  const lost = daemon.said("report")
  assert.ok(lost.length > 0)
  await daemon.end()
  daemon = await daemonOf()
  await until(() => ended().length === STEPS)

  const again = ended().map(({ lease }) => lease)
  assert.deepEqual(new Set(again).size, STEPS)
  assert.deepEqual(
    again.filter((lease) => told.includes(lease)),
    [],
  )
})

test("no hook throws, whatever it is given", async () => {
  await begin()
  const names = Object.keys(await host.begin())
  assert.ok(names.length >= 6)
  for (const name of names)
    for (const odd of [undefined, null, 7, {}, { event: {} }, { sessionID: "s", model: null }])
      for (const output of [undefined, null, {}, { headers: null, message: {}, parts: [] }])
        await host.tell(name, odd, output)
})

test("wrappers of other plugins see every request, and no mark below ours", async () => {
  const seen = { below: [], above: [] }
  const wrap = (fetch, list) => (url, init) => (
    list.push(new Headers(init.headers)),
    fetch(url, init)
  )
  globalThis.fetch = wrap(bare, seen.below)
  await begin()
  const ours = globalThis.fetch
  globalThis.fetch = wrap(ours, seen.above)
  await host.turn()

  assert.deepEqual([seen.above.length, seen.below.length], [STEPS, STEPS])
  const marks = (list) => list.filter((headers) => headers.has("x-amzn-trace-id")).length
  assert.deepEqual([marks(seen.above), marks(seen.below)], [STEPS, 0])
  for (const { headers } of providers.requests) assert.equal(headers["x-amzn-trace-id"], undefined)
  globalThis.fetch = ours
  await host.end()
  globalThis.fetch = bare
})

test("a request that another plugin sends twice at once is led and counted once", async () => {
  await begin()
  const live = { providerID: "A", id: "m1" }
  const about = { sessionID: "s", agent: "build", model: live, provider: { models: { m1: live } } }
  const headers = {}
  await host.tell("chat.headers", about, { headers })
  const both = [1, 2].map(() => send(globalThis.fetch, providers.url("A"), headers))
  for (const response of await Promise.all(both)) assert.match(await response.text(), served)
  await until(() => ended().length > 0)
  await daemon.hasAnswered()

  assert.equal(daemon.said("acquire").length, 1)
  assert.deepEqual(
    ended().map(({ outcome, lease }) => [outcome, lease]),
    [["ok", "lease 1"]],
  )
})

test("of two copies of the shim, one for all projects and one in this one, the first leads each request", async () => {
  const folder = mkdtempSync(join(tmpdir(), "rlmd-"))
  cpSync(dirname(fileURLToPath(process.env.SHIM)), folder, { recursive: true })
  const copy = (await import(pathToFileURL(join(folder, "rlmd.js")))).default
  await begin()
  const other = await copy.server({ client: host.client, directory: "/home/me/project" })
  const live = { providerID: "A", id: "m1" }
  const about = { sessionID: "s", agent: "build", model: live, provider: { models: { m1: live } } }
  const output = { headers: {} }
  await host.tell("chat.headers", about, output)
  await other["chat.headers"](about, output)
  const response = await send(globalThis.fetch, providers.url("A"), output.headers)
  await response.text()
  await until(() => ended().length > 0)

  assert.deepEqual(
    ended().map(({ outcome, lease }) => [outcome, lease]),
    [["ok", "lease 1"]],
  )
  assert.equal(providers.requests.at(-1).headers["x-amzn-trace-id"], undefined)
  await other.dispose()
  rmSync(folder, { recursive: true })
})

test("at the end fetch is as it was, and the connection is gone", async () => {
  const before = globalThis.fetch
  await begin()
  await host.turn()
  assert.notEqual(globalThis.fetch, before)
  await host.end()

  assert.equal(globalThis.fetch, before)
  await until(() => daemon.connections.size === 0)
  const { length } = daemon.lines
  await (await send(globalThis.fetch, providers.url("A"))).text()
  assert.equal(daemon.lines.length, length)
})

test("no line that a daemon was sent holds a key, a prompt or an answer", () => {
  assert.ok(everyLine.length > 100)
  for (const planted of [KEY, PROMPT, ANSWER])
    assert.deepEqual(
      everyLine.filter((line) => line.includes(planted)),
      [],
    )
})
