// Answers on their way to OpenCode 1.x: what it gets, what the daemon hears, what stays open.

import assert from "node:assert/strict"
import http from "node:http"
import { afterEach, beforeEach, test } from "node:test"
import { setTimeout as pause } from "node:timers/promises"
import { hostOf } from "./host1.mjs"
import { B, daemonOf, patient, recorded, reply, until, use } from "./stage.mjs"

const LIMIT = JSON.stringify({ type: "error", error: { type: "rate_limit_error" } })

let host, daemon, server, open
beforeEach(() => {
  open = new Set()
  host = hostOf({})
})
afterEach(async () => {
  await host.end()
  await daemon?.end()
  await new Promise((closed) => (server.closeAllConnections(), server.close(closed)))
})

/** A provider that answers so, and a request to it that is announced. */
async function asked(answer, replies, body = "{}") {
  server = http.createServer((request, response) => {
    open.add(response)
    response.on("close", () => open.delete(response))
    answer(response)
  })
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening))
  daemon = await daemonOf(replies)
  await host.begin()
  await until(host.hasStatus)
  const live = { providerID: "A", id: "m1" }
  const about = { sessionID: "s", agent: "build", model: live, provider: { models: { m1: live } } }
  const headers = {}
  await host.tell("chat.headers", about, { headers })
  return fetch(`http://127.0.0.1:${server.address().port}/v1`, { method: "POST", headers, body })
}
const told = () => daemon.said("report").map(({ outcome }) => outcome)
const moving = { report: ({ outcome }) => outcome === "error" && recorded(use(B)) }

test("lines of JSON are handed on as they come, and no time-out of the first byte cuts them", async () => {
  const welcome = patient(5_000)
  const settings = { ...welcome.settings, first_byte_ms: 1000 }
  const response = await asked(
    async (out) => {
      out.writeHead(200, { "content-type": "application/x-ndjson" })
      out.write('{"x":1}\n')
      await pause(1500)
      out.end('{"x":2}\n')
    },
    { hello: () => ({ ...welcome, settings }) },
  )
  const reader = response.body.getReader()
  const first = new TextDecoder().decode((await reader.read()).value)
  assert.equal(first, '{"x":1}\n')
  assert.equal(new TextDecoder().decode((await reader.read()).value), '{"x":2}\n')
  await reader.read()
  await until(() => told().includes("ok"))
})

test("the connection of an answer that is given up is closed", async () => {
  const response = await asked((out) => {
    out.writeHead(200, { "content-type": "text/event-stream" })
    out.write(`data: {"x":1}\n\n`)
    setTimeout(() => out.write(`data: ${LIMIT}\n\n`), 20)
  }, moving)
  await assert.rejects(response.text())
  await until(() => open.size === 0)
})

test("a reader that has had enough is reported as cancelled, and moves nothing", async () => {
  const response = await asked((out) => {
    out.writeHead(200, { "content-type": "text/event-stream" })
    out.write(`data: {"x":1}\n\n`)
  }, moving)
  const reader = response.body.getReader()
  await reader.read()
  await reader.cancel()
  await until(() => told().length === 2)
  assert.deepEqual(told(), ["accepted", "cancelled"])
  await until(() => open.size === 0)
})

test("an error with a smiley where it is cut moves the step as any other", async () => {
  const message = "a".repeat(347) + "🙂".repeat(3000)
  const response = await asked((out) => {
    out.writeHead(429, { "content-type": "application/json" })
    out.end(JSON.stringify({ error: { message } }))
  }, moving)
  assert.equal(response.headers.get("retry-after-ms"), "0")
  const line = daemon.lines.find(({ outcome }) => outcome === "error")
  assert.ok(JSON.parse(line.body).error.message.isWellFormed())
})

test("an error whose end never comes is reported, and OpenCode gets what there is", async () => {
  const response = await asked((out) => {
    out.writeHead(429, { "content-type": "application/json" })
    out.write('{"error":{"type":"rate_limit_error"}}')
  })
  assert.equal(response.status, 429)
  const { value } = await response.body.getReader().read()
  assert.match(new TextDecoder().decode(value), /rate_limit_error/)
  assert.match(daemon.said("report").at(-1).body, /rate_limit_error/)
})

test("an answer keeps its address and its kind", async () => {
  const response = await asked((out) => {
    out.writeHead(200, { "content-type": "text/event-stream" })
    out.end(`data: {"x":1}\n\n`)
  })
  assert.match(response.url, /127\.0\.0\.1/)
  const bare = await fetch(response.url)
  assert.deepEqual([response.type, response.redirected], [bare.type, bare.redirected])
  await Promise.all([bare.text(), response.text()])
})

test("a report that the daemon could not read is not made again", async () => {
  let unread = 0
  const response = await asked(
    (out) => out.writeHead(200, { "content-type": "application/json" }).end("{}"),
    { report: () => (unread++, reply("error", { id: null })) },
  )
  await response.text()
  await until(() => unread === 1)
  await daemon.hasAnswered()
  for (const socket of daemon.connections) socket.destroy()
  await until(host.hasStatus)
  assert.equal(unread, 1)
})

test("an odd answer to a report costs no connection, and the report is not made again", async () => {
  let reports = 0
  const odd = ({ id }) => {
    daemon.garbage = JSON.stringify({ type: "recorded", next: 7, id })
    return ++reports && undefined
  }
  const response = await asked(
    (out) => out.writeHead(200, { "content-type": "application/json" }).end("{}"),
    { report: odd },
  )
  await response.text()
  await until(() => reports === 1)
  const before = [...daemon.connections]
  await daemon.hasAnswered()
  daemon.garbage = undefined
  await until(host.hasStatus)

  assert.deepEqual([...daemon.connections], before)
  assert.equal(reports, 1)
})

test("of an error that has passed fetch by the messages that were sent are not told", async () => {
  const said = "our merger with ACME is planned for the ninth of May"
  const response = await asked((out) => out.end("{}"))
  await response.text()
  const model = { providerID: "A", modelID: "m1" }
  const info = { role: "user", sessionID: "t", agent: "build", model }
  const messages = [{ info, parts: [{ type: "text", text: said }] }]
  const error = { name: "APIError", data: { message: `Refused: ${said}`, statusCode: 402 } }
  const live = { providerID: "A", id: "m1" }
  const about = { sessionID: "t", agent: "build", model: live, provider: { models: { m1: live } } }
  const reports = () => daemon.said("report").filter(({ status }) => status === 402)

  await host.tell("chat.headers", about, { headers: {} })
  const failed = { type: "session.error", properties: { sessionID: "t", error } }
  await host.tell("event", { event: failed })
  await until(() => reports().length === 1)
  assert.equal(reports()[0].message, "")

  await host.tell("experimental.chat.messages.transform", {}, { messages })
  await host.tell("chat.headers", about, { headers: {} })
  await host.tell("event", { event: failed })
  await until(() => reports().length === 2)
  assert.equal(reports()[1].message, "Refused…")
})
