// The hooks of OpenCode 2.x, one by one, beside a stand-in for the daemon. The turns that they make are
// tested with the real program.

import assert from "node:assert/strict"
import { afterEach, beforeEach, test } from "node:test"
import { hooked, modelOf } from "./hooks2.mjs"
import { A, B, daemonOf, recorded, reply, shim, until, use } from "./stage.mjs"

const { answerOf } = await import(new URL("rlmd/v2/stand-in.js", process.env.SHIM))
const { patiently } = await import(new URL("rlmd/answers/patience.js", process.env.SHIM))

const C = { provider: "C", model: "m3" }
const URL_OF_A = "http://127.0.0.1:1/v1/messages"
const waiting = (facts) =>
  reply("wait", {
    retry_at: "2026-01-12T17:30:00.000Z",
    retry_after_ms: 7000,
    message: "nobody until 17:30",
    candidates: [
      {
        ...B,
        state: "open",
        until: "2026-01-12T17:30:00.000Z",
        reason: "throttle",
        why: "B rests",
      },
    ],
    ...facts,
  })

let daemon, host
beforeEach(() => {
  daemon = host = undefined
})
afterEach(async () => {
  await host?.leave()
  await daemon?.end()
})

async function begin(answer, first = A) {
  daemon = await daemonOf(answer)
  host = await hooked(first)
  await until(() => daemon.said("ping").length) // the connection is made, its patience known
}

const about = (session = "s", facts) => ({
  sessionID: session,
  agent: "build",
  kind: "primary",
  model: host.modelOf(session),
  ...facts,
})
const prompt = (session = "s", text = "hello") =>
  host.tell("prompt", { sessionID: session, messageID: "m", prompt: { text } })
/** A request on its way: what is sent in the end. */
const request = async (session, facts) => {
  const body = JSON.stringify({ messages: [{ role: "user", content: "the conversation" }] })
  const sent = new Request(URL_OF_A, { method: "POST", body })
  return (await host.tell("http.request", { ...about(session, facts), request: sent })).request
}
const answered = async (request, response, session, facts) =>
  (await host.tell("http.response", { ...about(session, facts), request, response })).response
const failed = async (session, facts) => {
  const error = { type: "provider.rate-limit", message: "limited", status: 429 }
  const decision = { retry: true, delay: 2000 }
  const moment = { ...about(session), kind: undefined, error, attempt: 2, decision, ...facts }
  return host.tell("retry", moment)
}
const limit = () => new Response("{}", { status: 429 })
const ends = () => daemon.said("report").filter(({ outcome }) => outcome !== "accepted")
const isHeld = ({ url }) => url === "data:,"

test("a host without session hooks is left alone: OpenCode 1.x calls this, too", async () => {
  assert.equal(await shim.setup({ command: {} }), undefined)
})

test("a turn starts on the model of its session, and of a new one on the default", async () => {
  await begin()
  await prompt("new")
  host.choose("old", modelOf(C))
  await prompt("old")

  const asked = daemon.said("acquire").map(({ provider, purpose }) => [provider, purpose])
  assert.deepEqual(asked, [
    ["A", "turn"],
    ["C", "turn"],
  ])
})

test("what the daemon wants elsewhere is not sent, and its step goes on there", async () => {
  await begin({ acquire: ({ purpose }) => purpose === "step" && use(B, { reason: "cooldown" }) })
  await prompt()
  const sent = await request()
  const response = await answered(sent, new Response(""))
  const { decision } = await failed()

  assert.ok(isHeld(sent))
  assert.equal(response.status, 429)
  assert.deepEqual(decision, { retry: true, delay: 0 })
  assert.deepEqual(host.switches, ["B"])
  assert.deepEqual(ends(), [])
})

test("what has to wait is not sent, and the error says until when", async () => {
  await begin({ acquire: ({ purpose }) => purpose === "step" && waiting() })
  await prompt()
  await answered(await request(), new Response(""))
  const { decision, error } = await failed()

  assert.deepEqual(decision, { retry: true, delay: 7000 })
  assert.equal(error.message, "nobody until 17:30")
  assert.deepEqual(host.switches, ["B"], "who is back first")
})

test("a far end ends the turn", async () => {
  await begin({ acquire: () => waiting({ retry_after_ms: 3_600_000 }) })
  await answered(await request(), new Response(""))
  const { decision } = await failed()

  assert.deepEqual(decision, { retry: false })
  assert.deepEqual(host.switches, [])
})

test("a title that nobody answers moves no session; one that its provider may answer is sent", async () => {
  let reason = "cooldown"
  await begin({ acquire: ({ purpose }) => purpose === "aux" && use(B, { reason }) })
  await prompt()
  assert.ok(isHeld(await request("s", { kind: "title" })))
  reason = "preferred"
  assert.ok(!isHeld(await request("s", { kind: "title" })))

  assert.deepEqual(host.switches, [])
})

test("requests that are under way together are reported each under its own lease", async () => {
  await begin()
  await prompt()
  const kinds = ["title", "generate", "title"]
  const sent = []
  for (const kind of kinds) sent.push(await request("s", { kind }))
  for (const one of sent.toReversed()) await (await answered(one, new Response("{}"))).text()
  await until(() => ends().length === 3)

  const told = ends().map(({ lease, outcome }) => `${lease} ${outcome}`)
  assert.deepEqual(told.sort(), ["lease 1 ok", "lease 2 ok", "lease 3 ok"])
})

test("a compaction that fails is not tried again; another provider writes it", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  await prompt()
  const compaction = { kind: "compaction" }
  const sent = await request("s", compaction)
  const response = await answered(sent, limit(), "s", compaction)

  assert.match(await response.text(), /a summary/)
  assert.deepEqual(host.switches, ["B"])
  assert.deepEqual((await failed()).decision, { retry: false })
})

test("two providers that send a step to each other do not do so for ever", async () => {
  await begin({ report: ({ provider }) => recorded(use(provider === "A" ? B : A)) })
  await prompt()
  let hops = 0
  for (; hops < 50; hops++) {
    await answered(await request(), limit())
    const { decision } = await failed()
    if (decision.delay !== 0) break
  }

  assert.equal(hops, 8)
})

test("a request that has passed the hooks by is counted with what it used, or led on", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  await prompt()
  const tokens = { input: 7, output: 3, reasoning: 0, cache: { read: 1, write: 2 } }
  host.happens("session.step.ended", { sessionID: "s", tokens, cost: 0.5 })
  await until(() => ends().length === 1)
  const { decision } = await failed()

  const usage = { input: 7, output: 3, reasoning: 0, cache_read: 1, cache_write: 2, cost: 0.5 }
  assert.deepEqual(ends()[0].usage, usage)
  assert.deepEqual(decision, { retry: true, delay: 0 })
})

test("a step that is stopped leaves no lease behind; a title may be answered after its turn", async () => {
  await begin()
  await prompt()
  await request()
  const title = await request("s", { kind: "title" })
  host.happens("session.execution.interrupted", { sessionID: "s" })
  await until(() => ends().length === 1)
  await (await answered(title, new Response("{}"), "s", { kind: "title" })).text()
  await until(() => ends().length === 2)

  assert.deepEqual(
    ends().map(({ lease, outcome }) => `${lease} ${outcome}`),
    ["lease 1 cancelled", "lease 2 ok"],
  )
})

test("a request that another plugin has put in place of OpenCode's is still the step's", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  await prompt()
  await request()
  await request("s", { kind: "title" })
  const other = new Request(URL_OF_A, { method: "POST", body: "{}" })
  const refused = limit()
  assert.equal(await answered(other, refused, "s", { kind: "title" }), refused)
  await answered(other, limit())

  assert.deepEqual((await failed()).decision, { retry: true, delay: 0 })
  assert.deepEqual(
    ends().map(({ lease, outcome }) => `${lease} ${outcome}`),
    ["lease 1 error"],
  )
})

test("without a daemon nothing is held back, and what was switched goes back", async () => {
  await begin({ acquire: ({ purpose }) => purpose === "turn" && use(B) })
  await prompt()
  await daemon.end()
  daemon = undefined
  await prompt()

  assert.ok(!isHeld(await request()))
  assert.deepEqual(host.switches, ["B", "A"])
})

test("a host that fails, or tells something odd, brings nothing down", async () => {
  await begin({ report: ({ outcome }) => outcome === "error" && recorded(use(B)) })
  for (const part of ["get", "switchModel", "generate"])
    host.host.session[part] = async () => {
      throw new Error("not today")
    }
  await answered(await request(), limit())
  assert.deepEqual((await failed()).decision, { retry: true, delay: 2000 }, "OpenCode's own")
  for (const name of ["prompt", "context", "http.request", "http.response", "retry"])
    for (const odd of [{}, { sessionID: "s", model: 3, request: 4, response: 5, error: 6 }])
      await host.tell(name, odd)
})

test("at the end the hooks and the connection are given back", async () => {
  await begin()
  await prompt()
  await host.leave()

  assert.equal(host.disposed, 7)
  await until(() => daemon.connections.size === 0)
  host = undefined
})

test("an answer of the shim's own is a stream on each wire, and none where the wire is not known", async () => {
  const wires = ["/v1/messages", "/v1/chat/completions", "/v1/responses"]
  for (const path of [...wires, "/v1beta/models/m:streamGenerateContent?alt=sse"]) {
    const response = answerOf(`http://127.0.0.1:1${path}`, 'the "text"')
    const lines = (await response.text()).split("\n").filter((line) => line.startsWith("data: {"))
    assert.ok(lines.map((line) => JSON.parse(line.slice(6))).length > 0)
    assert.ok(
      lines.some((line) => line.includes(JSON.stringify('the "text"'))),
      path,
    )
  }
  assert.equal(answerOf("http://127.0.0.1:1/model/m/converse-stream", "text"), undefined)
})

/** A stream of these chunks that then says no more. */
const silentAfter = (...chunks) =>
  new Response(
    new ReadableStream({
      start(out) {
        for (const chunk of chunks) out.enqueue(new TextEncoder().encode(`data: ${chunk}\n\n`))
      },
    }),
  )
const timeOf = async (response) => {
  try {
    await response.text()
  } catch ({ message }) {
    return message
  }
}

test("until the first word of an answer its first byte is waited for, then it may not stall", async () => {
  const patience = { first_byte_ms: 60, stall_ms: 30 }
  const thinking = silentAfter('{"type":"message_start"}', '{"delta":{"text":""}}')
  assert.equal(await timeOf(patiently(thinking, patience)), "timed out: nothing in 60 ms")
  const speaking = silentAfter('{"type":"message_start"}', '{"delta":{"text":"Hello"}}')
  assert.equal(await timeOf(patiently(speaking, patience)), "timed out: nothing in 30 ms")
  const forEver = silentAfter("{}")
  assert.equal(patiently(forEver, { first_byte_ms: 0, stall_ms: 0 }), forEver)
})
