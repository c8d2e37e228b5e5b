// OpenCode 2.x, by the stand-in host of host2.mjs: its real host is not published.

import assert from "node:assert/strict"
import { afterEach, beforeEach, test } from "node:test"
import { setTimeout as pause } from "node:timers/promises"
import { hostOf } from "./host2.mjs"
import {
  A,
  ANSWER,
  B,
  KEY,
  PROMPT,
  daemonOf,
  everyLine,
  providersOf,
  recorded,
  reply,
  shim,
  until,
  use,
  waits,
} from "./stage.mjs"

let providers, host, daemon, leave
beforeEach(async () => {
  providers = await providersOf()
  host = hostOf(providers)
})
afterEach(async () => {
  await leave?.()
  await daemon?.end()
  await providers.end()
  leave = daemon = undefined
})

async function begin(answer) {
  daemon = await daemonOf(answer)
  leave = await shim.setup(host.context)
  await until(async () => {
    await host.commands.get("rate_limit_status").execute({ sessionID: "none" })
    return host.said.pop().text === reply("status").text
  })
}

const ended = () => daemon.said("report").filter(({ outcome }) => outcome !== "accepted")
const [resting] = reply("wait").candidates
const waiting = (ms, retry_at = "2026-01-12T17:30:00.000Z") =>
  reply("wait", {
    retry_at,
    retry_after_ms: ms,
    message: "nobody until 17:30",
    candidates: [
      { ...resting, ...A, until: null },
      { ...resting, ...B, until: retry_at },
    ],
  })

test("a turn without a limit: asked for, announced, reported once", async () => {
  await begin()
  const { text } = await host.turn("s", { steps: 2 })
  await until(() => ended().length === 2)

  assert.match(text, new RegExp(ANSWER))
  const asked = daemon.said("acquire").map(({ purpose, session }) => `${purpose} ${session}`)
  assert.deepEqual(asked, ["turn s", "step s", "step s"])
  assert.deepEqual(
    ended().map(({ outcome, lease }) => [outcome, lease]),
    [
      ["ok", "lease 1"],
      ["ok", "lease 2"],
    ],
  )
  const [accepted] = daemon.said("report").filter(({ outcome }) => outcome === "accepted")
  assert.equal(accepted.status, 200)
  assert.deepEqual(host.switches, [])
})

test("a turn starts where the daemon says, and goes back when that is free again", async () => {
  let to = B
  await begin({ acquire: ({ purpose }) => purpose === "turn" && use(to, { switched: true }) })
  await host.turn("s")
  to = A
  await host.turn("s")

  assert.deepEqual(providers.asked(), ["B", "A"])
  const turns = daemon.said("acquire").filter(({ purpose }) => purpose === "turn")
  assert.deepEqual(
    turns.map(({ provider }) => provider),
    ["A", "A"],
  )
})

test("what a person chooses in between counts as asked for", async () => {
  let to = B
  await begin({
    acquire: ({ purpose, provider, model }) => purpose === "turn" && use(to ?? { provider, model }),
  })
  await host.turn("s")
  to = undefined
  host.choose("s", { providerID: "C", id: "m3" })
  await host.turn("s")

  assert.deepEqual(providers.asked(), ["B", "C"])
})

test("a limit in the middle of a turn: the same step goes on with the next provider, at once", async () => {
  const moved = new Set()
  await begin({
    report: ({ outcome, session }) => outcome === "error" && (moved.add(session), recorded(use(B))),
    acquire: ({ session, lease_for }) =>
      moved.has(session) && use(B, { lease: lease_for?.provider === "B" ? "b" : undefined }),
  })
  providers.queues.A = ["ok", "429"]
  const { text, model } = await host.turn("s", { steps: 3 })
  await until(() => ended().length === 4)

  assert.match(text, new RegExp(ANSWER))
  assert.equal(model.providerID, "B")
  assert.deepEqual(providers.asked(), ["A", "A", "B", "B"])
  assert.deepEqual(host.waits, [0])
  const [failed, ...more] = ended().filter(({ outcome }) => outcome === "error")
  assert.deepEqual(more, [])
  assert.equal(JSON.parse(failed.body).error.message.length, 500)
  assert.deepEqual([failed.provider, failed.model, failed.status], ["A", "m1", 429])
  const { date, ...headers } = failed.headers
  assert.ok(date)
  assert.deepEqual(headers, { "content-type": "application/json", "retry-after": "60" })
  assert.match(failed.body, /rate_limit_error/)
})

for (const what of ["overloaded", "break", "drop"])
  test(`an answer that fails on its way moves the step as well: ${what}`, async () => {
    await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
    providers.queues.A = [what]
    const { text } = await host.turn("s")

    assert.match(text, new RegExp(ANSWER))
    assert.deepEqual(providers.asked(), ["A", "B"])
    assert.equal(ended().filter(({ outcome }) => outcome === "error").length, 1)
  })

test("other sessions' findings count from the next step on", async () => {
  const isLimited = () => daemon.said("acquire").length > 2 // since the first step was on its way
  await begin({
    acquire: ({ purpose }) => purpose === "step" && isLimited() && use(B, { reason: "cooldown" }),
  })
  await host.turn("s", { steps: 4 })

  assert.deepEqual(providers.asked(), ["A", "A", "B", "B"])
})

test("all limited, and not for long: OpenCode waits as long as the daemon says, for the one it names", async () => {
  await begin({
    report: ({ outcome, provider }) =>
      outcome === "error" && recorded(provider === "A" ? waiting(7000) : undefined),
  })
  providers.queues.A = ["429"]
  await host.turn("s")

  assert.deepEqual(host.waits, [7000])
  assert.deepEqual(providers.asked(), ["A", "B"])
  assert.deepEqual(host.said, [{ sessionID: "s", text: "nobody until 17:30" }])
})

for (const ms of [120_001, null])
  test(`all limited for long (${ms} ms): the turn ends, and the session says until when`, async () => {
    await begin({ report: ({ outcome }) => outcome === "error" && recorded(waiting(ms, null)) })
    providers.queues.A = ["429"]
    const { error } = await host.turn("s")

    assert.equal(error.status, 429)
    assert.deepEqual(host.waits, [])
    assert.deepEqual(host.said, [{ sessionID: "s", text: "nobody until 17:30" }])
  })

test("a transport that no request is seen of is led by its failures alone", async () => {
  await begin({
    report: ({ outcome, provider }) => outcome === "error" && provider === "A" && recorded(use(B)),
  })
  const model = host.modelOf("s")
  await host.tell("prompt", { sessionID: "s", model })
  const error = {
    type: "provider",
    message: "no",
    status: 429,
    response: { headers: { "retry-after": "9" } },
  }
  for (const provider of ["A", "B", "A"]) {
    const at = provider === "A" ? model : { providerID: "B", id: "m2" }
    const moment = { sessionID: "s", model: at, error, attempt: 1, decision: { retry: false } }
    const { decision } = await host.tell("retry", moment)
    assert.deepEqual(decision, provider === "A" ? { retry: true, delay: 0 } : { retry: false })
  }

  const told = daemon
    .said("report")
    .map(({ provider, status, headers }) => [provider, status, headers])
  const headers = { "retry-after": "9" }
  assert.deepEqual(
    told,
    [..."ABA"].map((provider) => [provider, 429, headers]),
  )
})

test("what is said in a session is said once for one fact", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(waiting(7000)) })
  providers.queues.A = providers.queues.B = ["429", "429", "429"]
  await host.turn("s")

  assert.equal(host.waits.length, 3)
  assert.equal(host.said.length, 1)
})

test("two providers that send a step to each other do not do so for ever", async () => {
  await begin({
    report: ({ outcome, provider }) =>
      outcome === "error" && recorded(use(provider === "A" ? B : A)),
  })
  providers.queues.A = providers.queues.B = Array(100).fill("429")
  const { error } = await host.turn("s")

  assert.equal(error.status, 429)
  assert.ok(providers.requests.length < 20)
})

test("what is no limit is left to OpenCode", async () => {
  await begin({ report: () => recorded() })
  providers.queues.A = ["400", "400"]
  const { error } = await host.turn("s")

  assert.equal(error.status, 400)
  assert.deepEqual(host.waits, [0]) // the stand-in's own retry
  assert.deepEqual(host.switches, [])
})

test("a title is counted apart, moves no session, and is not tried again at a limit", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  providers.queues.A = ["429", "ok"]
  const turn = host.turn("s", { title: true, steps: 0 })
  await turn
  await host.turn("s")

  const purposes = daemon.said("acquire").map(({ purpose }) => purpose)
  assert.deepEqual(purposes, ["turn", "aux", "turn", "step"])
  assert.deepEqual(providers.asked(), ["A", "A"])
  assert.deepEqual(host.switches, [])
})

const placed = ({ provider, model }) => ({ providerID: provider, id: model })
const about = { sessionID: "s", agent: "build", kind: "primary", model: placed(A) }
/** Tells a hook. An answer is then read, as OpenCode reads what the hook has left of it. */
async function tell(name, facts) {
  const moment = await host.tell(name, { ...about, ...facts })
  if (name === "http.response") void moment.response.text()
  return moment
}
const limit = () => new Response("{}", { status: 429 })
const failing = { error: { status: 429 }, attempt: 1, decision: { retry: true, delay: 1000 } }
const turnsOn = () =>
  daemon
    .said("acquire")
    .filter(({ purpose }) => purpose === "turn")
    .map(({ provider }) => provider)
const C = { provider: "C", model: "m3" }

test("an agent of a person's own is no title, whatever its name", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  const moment = { agent: "summary-writer" }
  await tell("prompt", moment)
  await tell("http.request", moment)
  await tell("http.response", { ...moment, response: limit() })
  const { decision } = await tell("retry", { ...moment, kind: undefined, ...failing })

  assert.deepEqual(decision, { retry: true, delay: 0 })
})

test("a session that nothing was heard of is led as well: a sub-agent's, on a transport of its own", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  const { decision } = await tell("retry", { kind: undefined, ...failing })

  assert.deepEqual(decision, { retry: true, delay: 0 })
  assert.deepEqual(host.switches, ["B"])
})

test("answers whose requests were not seen are one attempt each", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  await tell("http.response", { response: new Response("{}") })
  await until(() => ended().length === 1)
  await tell("http.response", { response: limit() })
  const { decision } = await tell("retry", { kind: undefined, ...failing })

  assert.deepEqual(decision, { retry: true, delay: 0 })
  assert.deepEqual(
    ended().map(({ outcome }) => outcome),
    ["ok", "error"],
  )
})

test("requests of one session that are under way together are reported apart", async () => {
  await begin()
  const kinds = ["primary", "primary", "title", "generate"]
  const ends = []
  for (const kind of kinds) {
    const response = new Response(new ReadableStream({ start: (out) => ends.push(out) }))
    await tell("http.request", { agent: kind, kind })
    if (kind === "primary") await tell("http.response", { agent: kind, kind, response })
  }
  for (const end of ends.slice(0, 2)) end.close()
  for (const kind of kinds.slice(2))
    await tell("http.response", { agent: kind, kind, response: new Response("{}") })
  await until(() => ended().length === 4)

  const told = ended().map(({ outcome, lease }) => `${lease} ${outcome}`)
  assert.deepEqual(told.sort(), ["lease 1 ok", "lease 2 ok", "lease 3 ok", "lease 4 ok"])
})

test("requests of one session that begin at once leave no lease behind", async () => {
  await begin()
  await Promise.all([tell("http.request"), tell("http.request")])
  for (let answers = 0; answers < 2; answers++)
    await tell("http.response", { response: new Response("{}") })
  await until(() => ended().length === 3)

  const told = ended().map(({ outcome, lease }) => `${/lease \d/.test(lease)} ${outcome}`)
  assert.deepEqual(told, ["true cancelled", "true ok", "false ok"])
})

test("a request that is made again on its old model is nobody's choice of a model", async () => {
  const next = [B, A]
  await begin({
    acquire: ({ purpose, lease_for }) =>
      use(purpose === "turn" ? A : (next.shift() ?? { ...lease_for })),
  })
  await tell("prompt")
  await tell("http.request") // the session goes to B
  await tell("http.request") // an HTTP client's own retry; the session comes back
  await tell("http.request", { model: placed(B) }) // and that is seen late
  await tell("prompt", { model: host.modelOf("s") })

  assert.deepEqual(turnsOn(), ["A", "A"])
  assert.equal(host.modelOf("s").providerID, "A")
})

test("a switch that is not through yet is nobody's choice of a model either", async () => {
  let to = B
  await begin({ acquire: () => use(to) })
  const { switchModel } = host.context.session
  host.context.session.switchModel = (change) => switchModel(change).then(() => pause(40))
  const prompt = tell("prompt")
  await until(() => host.switches.length)
  await tell("http.request", { model: placed(B) })
  await prompt
  to = A
  await tell("prompt", { model: host.modelOf("s") })

  assert.deepEqual(turnsOn(), ["A", "A"])
})

test("a compaction's own model is counted, and is not the session's", async () => {
  await begin({
    acquire: ({ purpose, provider }) => purpose !== "turn" && provider === "C" && use(B),
    report: ({ outcome }) => outcome === "error" && recorded(use(B)),
  })
  const compaction = { agent: "compaction", kind: "compaction", model: placed(C) }
  await tell("prompt")
  await tell("http.request", compaction)
  await tell("http.response", { ...compaction, response: limit() })
  const { decision } = await tell("retry", { ...compaction, kind: undefined, ...failing })
  await tell("prompt")

  assert.deepEqual(host.switches, [])
  assert.deepEqual(turnsOn(), ["A", "A"])
  assert.deepEqual(decision, failing.decision)
  assert.equal(ended().length, 1)
})

test("a compaction on the session's model is led like any step", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  const compaction = { agent: "compaction", kind: "compaction" }
  await tell("prompt")
  await tell("http.request", compaction)
  await tell("http.response", { ...compaction, response: limit() })
  const { decision } = await tell("retry", { ...compaction, kind: undefined, ...failing })

  assert.deepEqual(decision, { retry: true, delay: 0 })
  assert.deepEqual(host.switches, ["B"])
})

test("a switch or a message that never gets through holds no turn", async () => {
  await begin({
    report: ({ outcome, provider, session }) =>
      outcome === "error" && recorded(session === "far" ? waiting(null, null) : use(B)),
  })
  host.context.session.switchModel = host.context.session.synthetic = () => new Promise(() => {})
  providers.queues.A = ["429", "429"]
  const { error } = await host.turn("far")
  const { text } = await host.turn("near")

  assert.equal(error.status, 429)
  assert.match(text, new RegExp(ANSWER)) // by the stand-in's own retry
})

test("that nobody is left is said where no switch is possible as well", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(waiting(7000)) })
  host.context.session.switchModel = undefined
  providers.queues.A = ["429"]
  await host.turn("s")

  assert.deepEqual(host.said, [{ sessionID: "s", text: "nobody until 17:30" }])
})

test("a person's stop is reported as one", async () => {
  await begin()
  providers.queues.A = ["ok"]
  const stop = new AbortController()
  await host.tell("prompt", { sessionID: "s", model: host.modelOf("s") })
  await host.tell("http.request", { sessionID: "s", model: host.modelOf("s"), kind: "primary" })
  const body = new ReadableStream({
    start: (out) => stop.signal.addEventListener("abort", () => out.error(stop.signal.reason)),
  })
  const headers = { "content-type": "text/event-stream" }
  await host.tell("http.response", {
    sessionID: "s",
    model: host.modelOf("s"),
    kind: "primary",
    response: new Response(body, { headers }),
  })
  stop.abort()
  await until(() => ended().length === 1)

  assert.equal(ended()[0].outcome, "cancelled")
})

test("sessions of one process are on different providers", async () => {
  const limited = new Set(["s2", "s4"])
  await begin({
    acquire: ({ session, purpose }) => purpose === "turn" && limited.has(session) && use(B),
  })
  await Promise.all(["s1", "s2", "s3", "s4"].map((session) => host.turn(session, { steps: 3 })))

  const places = daemon.said("acquire").filter(({ purpose }) => purpose === "step")
  for (const { session, lease_for } of places)
    assert.equal(lease_for.provider, limited.has(session) ? "B" : "A")
  assert.deepEqual(providers.asked().sort(), [..."AAAAAABBBBBB"])
})

test("without a daemon everything goes its way, and what was switched goes back", async () => {
  await begin({ acquire: ({ purpose }) => purpose === "turn" && use(B) })
  await host.turn("s")
  await daemon.end()
  await host.turn("s")

  assert.deepEqual(providers.asked(), ["B", "A"])
  const prompt = () => host.tell("prompt", { sessionID: "s", model: host.modelOf("s") })
  assert.equal(await waits(prompt), false)
  daemon = undefined
})

test("the command shows the daemon's text and asks no model", async () => {
  await begin()
  const command = host.commands.get("rate_limit_status")
  await command.execute({ sessionID: "s" })
  await daemon.end()
  daemon = undefined
  await pause(10)
  await command.execute({ sessionID: "s" })

  const texts = host.said.map(({ text }) => text)
  assert.deepEqual(texts, [
    reply("status").text,
    "rlmd is not running. Start it with: rlmctl start",
  ])
  assert.deepEqual(providers.requests, [])
})

test("a notice is one line on stderr, and only of what concerns this process", async (t) => {
  await begin()
  await host.turn("s")
  const write = t.mock.method(process.stderr, "write", () => true)
  const event = reply("event", { event: "switched", session: "s", message: "using B" })
  daemon.push({ ...event, session: "of another process", message: "using C" })
  daemon.push(event)
  daemon.push(event)
  await until(() => write.mock.callCount())
  await host.turn("s") // its answers come after those notices

  assert.deepEqual(
    write.mock.calls.map((call) => call.arguments[0]),
    ["rlmd: using B\n"],
  )
})

test("of what concerns two projects of a process one line is written", async (t) => {
  await begin()
  const write = t.mock.method(process.stderr, "write", () => true)
  const other = hostOf(providers)
  const leaveOther = await shim.setup(other.context)
  await other.turn("s")
  daemon.push(
    reply("event", { event: "warning", session: undefined, to: undefined, message: "80 %" }),
  )
  await host.turn("s")
  await other.turn("s") // their answers come after those notices
  await leaveOther()

  const told = write.mock.calls.map((call) => call.arguments[0])
  assert.deepEqual(told, ["rlmd: 80 %\n"])
})

test("a fact that is new again is told again", async (t) => {
  await begin()
  await host.turn("s")
  const write = t.mock.method(process.stderr, "write", () => true)
  const event = reply("event", { event: "switched", session: "s", model: "another" })
  const words = ["A rests; using B", "back on A", "A rests; using B", "back on A"]
  for (const message of words)
    for (let times = 0; times < 2; times++) daemon.push({ ...event, to: message.at(-1), message })
  await host.turn("s") // its answers come after those notices

  const told = write.mock.calls.map((call) => call.arguments[0])
  assert.deepEqual(
    told,
    words.map((word) => `rlmd: ${word}\n`),
  )
})

test("a host that lacks something, or that fails, is not brought down", async () => {
  await (
    await shim.setup({})
  )()
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  host.context.session.switchModel = async () => {
    throw new Error("no such model")
  }
  host.context.session.synthetic = host.context.session.switchModel
  providers.queues.A = ["429"]
  const { text } = await host.turn("s")
  await host.commands.get("rate_limit_status").execute({ sessionID: "s" })
  for (const name of ["prompt", "model.request", "http.request", "http.response", "retry"])
    for (const odd of [
      {},
      { sessionID: "s", model: 3, response: 4, error: 5 },
      { ...about, response: { clone: () => ({ headers: 3 }) }, error: { response: 6 } },
    ])
      await host.tell(name, odd)

  assert.match(text, new RegExp(ANSWER)) // by the stand-in's own retry
})

test("of two copies the first one acts", async () => {
  await begin()
  const second = await shim.setup(host.context)
  await host.turn("s")
  await until(() => ended().length === 1)
  await second()

  assert.equal(daemon.said("acquire").length, 2)
})

test("at the end the hooks and the connection are given back", async () => {
  await begin()
  await host.turn("s")
  await leave()
  leave = undefined

  assert.deepEqual([host.disposed, host.commands.size], [5, 0])
  await until(() => daemon.connections.size === 0)
})

test("no line that a daemon was sent holds a key, a prompt or an answer", () => {
  assert.ok(everyLine.length > 50)
  for (const planted of [KEY, PROMPT, ANSWER])
    assert.deepEqual(
      everyLine.filter((line) => line.includes(planted)),
      [],
    )
})
