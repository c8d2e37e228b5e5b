// Answers of every kind: what OpenCode gets of them, and what is told of their errors.

import assert from "node:assert/strict"
import { test } from "node:test"
import { ANSWER } from "./stage.mjs"

const at = (name) => import(new URL(`rlmd/answers/${name}.js`, process.env.SHIM))
const { sse, lines, whole } = await at("sse")
const { eventStream } = await at("eventstream")
const { errorIn, factsOf, wordsOf } = await at("errors")
const { causeOf } = await at("causes")
const { follow, isFollowed } = await at("follow")
const { peek } = await at("body")
const { Redaction, UNSEEN } = await at("redaction")

const SECRET = "sk-live-0123456789abcdef"
const SAID = "our merger with ACME is planned for the ninth of May"
const sent = (body = JSON.stringify({ messages: [{ role: "user", content: SAID }] })) =>
  new Redaction({
    headers: new Headers({ authorization: `Bearer ${SECRET}` }),
    url: "https://someone:passw0rd-of-mine@host/v1?key=query-key-0123",
    body,
  })
const none = new Redaction({})
const bytes = (text) => new TextEncoder().encode(text)
const read = (reader, ...chunks) =>
  [...chunks.flatMap((chunk) => reader.read(bytes(chunk))), ...reader.end()].map((event) =>
    errorIn(event, none),
  )
const errorsOf = (...chunks) => read(sse(), ...chunks).filter(Boolean)
const LIMIT = JSON.stringify({ type: "error", error: { type: "rate_limit_error" } })

// Server-Sent Events

for (const [what, end] of [
  ["LF", "\n"],
  ["CR", "\r"],
  ["CRLF", "\r\n"],
])
  test(`an error is seen in a stream whose lines end in ${what}, wherever its chunks end`, () => {
    const text = `: hello${end}${end}data: {"x":1}${end}${end}event: error${end}data: ${LIMIT}${end}${end}`
    for (let cut = 0; cut <= text.length; cut++)
      assert.equal(errorsOf(text.slice(0, cut), text.slice(cut)).length, 1)
  })

test("an error is seen that stands on several data lines", () => {
  const pretty = JSON.stringify(JSON.parse(LIMIT), null, 2)
  const data = pretty.split("\n").map((line) => `data: ${line}\n`)
  assert.match(errorsOf(data.join("") + "\n")[0], /rate_limit_error/)
})

test("an error is seen in a last line without an end", () => {
  assert.match(errorsOf(`data: ${LIMIT}`)[0], /rate_limit_error/)
})

test("an error event whose data are plain text is an error", () => {
  assert.match(errorsOf("event: error\ndata: rate limit exceeded\n\n")[0], /rate limit exceeded/)
})

test("an error that stands in a choice alone is seen, and so is a choice that ends in one", () => {
  const choice = { error: { code: 429, message: "slow down" }, delta: { content: ANSWER } }
  const [found] = errorsOf(`data: ${JSON.stringify({ choices: [choice] })}\n\n`)
  assert.match(found, /slow down/)
  assert.doesNotMatch(found, new RegExp(ANSWER))
  const ended = { choices: [{ finish_reason: "error", delta: { content: ANSWER } }] }
  assert.deepEqual(errorsOf(`data: ${JSON.stringify(ended)}\n\n`), ['{"type":"error"}'])
})

test("an answer that only talks of errors is none", () => {
  const talk = { type: "text", text: 'event: error\ndata: {"error": "rate limit"}', error: null }
  assert.deepEqual(errorsOf(`data: ${JSON.stringify(talk)}\n\n`), [])
})

test("a line of more than 64 KiB is passed over, and the next one is read", () => {
  const long = `data: {"error":"${"x".repeat(70_000)}"}\n\n`
  assert.equal(errorsOf(long.slice(0, 40_000), long.slice(40_000)).length, 0)
  assert.equal(errorsOf(long.slice(0, 40_000), `${long.slice(40_000)}data: ${LIMIT}\n\n`).length, 1)
})

test("lines of JSON are events", () => {
  const found = read(lines(), '{"message":{}}\n{"error":"too many ', 'requests"}\n').filter(Boolean)
  assert.match(found[0], /too many requests/)
  assert.equal(found.length, 1)
})

test("a refusal within a good status is an error: base_resp, a document with an error", () => {
  const base = { base_resp: { status_code: 1008, status_msg: "insufficient balance" } }
  assert.match(read(whole(), JSON.stringify(base))[0], /1008/)
  assert.equal(read(whole(), '{"base_resp":{"status_code":0}}')[0], undefined)
  assert.match(read(whole(), '{"error":{"code":429}}')[0], /429/)
})

// Bedrock's frames

function frame(headers, payload) {
  const named = Object.entries(headers).flatMap(([name, value]) => [
    name.length,
    ...bytes(name),
    7,
    value.length >> 8,
    value.length & 255,
    ...bytes(value),
  ])
  const body = [...bytes(payload)]
  const view = new DataView(new ArrayBuffer(16 + named.length + body.length))
  view.setUint32(0, view.byteLength)
  view.setUint32(4, named.length)
  const whole = new Uint8Array(view.buffer)
  whole.set([...named, ...body], 12)
  return whole
}
const GOOD = frame({ ":message-type": "event", ":event-type": "chunk" }, '{"bytes":"e30="}')
const THROTTLED = frame(
  { ":message-type": "exception", ":exception-type": "throttlingException" },
  '{"message":"Too many tokens per day, please wait"}',
)

test("an exception in Bedrock's event stream is an error, wherever the chunks end", () => {
  const both = new Uint8Array([...GOOD, ...THROTTLED])
  for (let cut = 0; cut <= both.length; cut++) {
    const reader = eventStream()
    const events = [both.subarray(0, cut), both.subarray(cut)].flatMap((part) => reader.read(part))
    const [first, second, ...more] = events.map((event) => errorIn(event, none))
    assert.deepEqual([first, more], [undefined, []])
    assert.match(second, /throttlingException.*Too many tokens per day/)
  }
})

test("a frame that is longer than its stream may be, or than itself, ends the reading and no more", () => {
  for (const [total, headers] of [
    [2 ** 32 - 1, 0],
    [16, 400],
    [3, 0],
  ]) {
    const odd = new Uint8Array(64)
    const view = new DataView(odd.buffer)
    view.setUint32(0, total)
    view.setUint32(4, headers)
    assert.deepEqual(eventStream().read(odd), [])
  }
  const broken = THROTTLED.slice()
  broken[12] = 255 // a header's name that goes on beyond the headers
  assert.equal(eventStream().read(broken).length, 1)
})

test("a long frame is passed over, and the next one is read", () => {
  const long = frame({ ":message-type": "event" }, "x".repeat(65_000))
  const huge = new Uint8Array(70_000)
  new DataView(huge.buffer).setUint32(0, huge.length)
  const reader = eventStream()
  const events = [...reader.read(long), ...reader.read(huge), ...reader.read(THROTTLED)]
  assert.equal(events.map((event) => errorIn(event, none)).filter(Boolean).length, 1)
})

// What is told

test("of a JSON error only the fields are told that tell of limits", () => {
  const error = {
    detail: [
      { type: "missing", loc: ["body"], msg: "Field required", input: SAID, ctx: { error: SAID } },
    ],
    error: { code: 403, message: "moderation", metadata: { reasons: [SAID], flagged_input: SAID } },
    request: { messages: [{ content: SAID }], title: SAID },
    user_id: "user_1",
  }
  assert.deepEqual(JSON.parse(wordsOf(JSON.stringify(error), none)), {
    detail: [{ type: "missing", msg: "Field required" }],
    error: { code: 403, message: "moderation" },
  })
})

test("what a gateway wraps is read as if it stood alone", () => {
  const raw = `429 {"error":{"message":"slow down","user":"${SAID}"}}`
  const told = wordsOf(JSON.stringify({ error: { metadata: { raw } } }), none)
  assert.deepEqual(JSON.parse(told), {
    error: { metadata: { raw: [{ error: { message: "slow down" } }, "429 "] } },
  })
})

test("a text is cut to its beginning and its end, in whole characters", () => {
  for (let length = 340; length < 360; length++) {
    const [told] = none.clean(["x".repeat(length) + "🙂".repeat(200) + "retry in 5s"])
    assert.ok(told.isWellFormed())
    assert.ok(told.length <= 500)
    assert.match(told, /retry in 5s$/)
  }
})

test("keys of the request are told in none of their forms", () => {
  const forms = [SECRET, btoa(SECRET).replace(/=+$/, ""), "query-key-0123", "passw0rd-of-mine"]
  for (const form of forms)
    for (const text of [
      `key ${form} is wrong`,
      JSON.stringify({ error: { message: form, code: form } }),
    ])
      assert.ok(!wordsOf(text, sent()).includes(form), form)
  assert.ok(!wordsOf("Received API Key = sk-proj-abcdefghijklmnopqrst", none).includes("abcdefgh"))
})

test("what an error repeats of the request's body is not told, however it is escaped", () => {
  const lines = 'the "first" line\nand the second one\twith C:\\temp\\name in it'
  const body = JSON.stringify({ messages: [{ content: lines }] })
  for (const told of [lines, JSON.stringify(lines), JSON.stringify(JSON.stringify(lines))])
    assert.equal(
      sent(body)
        .clean([`filtered: ${told} !`])[0]
        .match(/first|second|temp/),
      null,
    )
  assert.equal(sent().clean([`The prompt was filtered: ${SAID}.`])[0], "The prompt was filtered….")
})

test("words that an error has by chance in common with the request stay", () => {
  const [told] = sent(JSON.stringify({ content: "what does rate limit exceeded mean" })).clean([
    "Error: rate limit exceeded, retry in 20s",
  ])
  assert.equal(told, "Error: rate limit exceeded, retry in 20s")
})

test("of a request whose body cannot be seen no sentence of an error is told", () => {
  const unseen = new Redaction({ body: UNSEEN })
  const body = JSON.stringify({ error: { type: "rate_limit_error", message: SAID } })
  assert.equal(wordsOf(body, unseen), '{"error":{"type":"rate_limit_error"}}')
  assert.equal(wordsOf(SAID, unseen), "")
  assert.equal(causeOf(new TypeError(SAID), unseen), "TypeError:  ")
})

test("bodies of every kind are compared, as far as they can be had without being consumed", async () => {
  const form = new FormData()
  form.set("prompt", SAID)
  for (const body of [SAID, bytes(SAID), bytes(SAID).buffer, new URLSearchParams({ SAID }), form])
    assert.ok(
      !sent(body)
        .clean([`no: ${SAID}`])[0]
        .includes("merger"),
    )
  const stream = new Blob([SAID]).stream()
  assert.equal(sent(stream).knowsBody, false)
  assert.equal(await new Response(stream).text(), SAID)
})

test("a request of megabytes and a hostile error take linear time", () => {
  const body = "a".repeat(4_000_000) + "-".repeat(4_000_000) + SAID
  sent(body).clean(["a".repeat(64 * 1024), "-".repeat(64 * 1024), SAID])
  wordsOf("[".repeat(60_000), none)
  wordsOf('{"a":'.repeat(12_000), none)
  wordsOf('{"error":"' + "\\".repeat(60_000), none)
  // The square of any of these takes longer than this file is given.
})

test("headers are told by their names, and without keys", () => {
  const headers = new Headers({
    "x-amzn-errortype": "ThrottlingException",
    "retry-after": "3",
    "x-ratelimit-key": SECRET,
    "x-ratelimit-reset-requests": SECRET,
    "set-cookie": SECRET,
    date: "Thu, 24 Sep 2026 15:31:30 GMT",
  })
  assert.deepEqual(factsOf({ status: 429, headers }, sent()).headers, {
    "x-amzn-errortype": "ThrottlingException",
    "retry-after": "3",
    "x-ratelimit-reset-requests": "…",
    date: "Thu, 24 Sep 2026 15:31:30 GMT",
  })
})

test("a cause is told by its name, its code and its words, without addresses and keys", () => {
  const cause = Object.assign(new Error("inner"), { code: "ECONNREFUSED" })
  const error = new TypeError(`fetch failed: http://x/?k=1 ${SECRET} ${SAID}`, { cause })
  assert.equal(causeOf(error, sent()), "TypeError: ECONNREFUSED fetch failed: … … …")
})

// Handing on

test("OpenCode gets the whole of an error's body, of which the beginning was read", async () => {
  const text = "x".repeat(300_000)
  let asked = 0
  const body = new ReadableStream({
    pull: (out) => (asked++ < 300 ? out.enqueue(bytes("x".repeat(1000))) : out.close()),
  })
  const { text: beginning, response } = await peek(new Response(body, { status: 400 }))
  assert.equal(beginning.length, 64 * 1024)
  assert.ok(asked < 70)
  assert.equal(await response.text(), text)
})

test("a reader that leaves is no error of the source, which is closed", async () => {
  let closed = false
  const body = new ReadableStream({
    pull: (out) => out.enqueue(bytes('data: {"x":1}\n\n')),
    cancel: () => void (closed = true),
  })
  const heard = []
  const listener = Object.fromEntries(
    ["byte", "begun", "failed", "broke", "ended", "left"].map((name) => [
      name,
      async () => void heard.push(name),
    ]),
  )
  const reader = follow(new Response(body), none, listener).body.getReader()
  await reader.read()
  await reader.cancel()
  assert.deepEqual(heard, ["byte", "begun", "left"])
  assert.equal(closed, true)
})

test("an answer that cannot be read along comes whole all the same", async () => {
  const text = 'data: {"error":{"code":429}}\n\n'.repeat(3)
  const failing = { knowsBody: true, clean: () => assert.fail("a mistake of ours") }
  const heard = []
  const listener = { failed() {}, broke() {}, left() {}, ended: () => heard.push("ended") }
  const response = follow(new Response(text), failing, listener)
  assert.equal(await response.text(), text)
  assert.deepEqual(heard, ["ended"])
})

test("a long JSON document is not read along", () => {
  const headers = { "content-type": "application/json; charset=utf-8", "content-length": "70000" }
  assert.equal(isFollowed(new Response("{}", { headers })), false)
  assert.equal(
    isFollowed(new Response("{}", { headers: { ...headers, "content-length": "2" } })),
    true,
  )
})
