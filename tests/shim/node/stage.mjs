// What stands around the shim in these tests: a daemon, providers, and OpenCode's own doings.
//
// The daemon says the lines of tests/data/protocol.jsonl, which the real one is held to. OpenCode 1.x
// is a recording of the real 1.18.33 (tests/data/opencode-1.18.33.jsonl); OpenCode 2.x is a small
// stand-in that holds what is published of it and nothing else.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import http from "node:http"
import net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"

const DATA = new URL("../../data/", import.meta.url)
export const linesOf = (name) =>
  readFileSync(new URL(name, DATA), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))

const folder = mkdtempSync(join(tmpdir(), "rlmd-"))
process.on("exit", () => {
  rmSync(folder, { recursive: true })
  if (process.env.LINES)
    writeFileSync(process.env.LINES, JSON.stringify({ asked: everyLine, said: everyReply }))
})
process.env.RLMD_SOCKET ??= join(folder, "rlmd.sock") // before the shim is loaded, which reads it once

/** The shim as it is loaded by OpenCode. */
export const shim = (await import(process.env.SHIM)).default

export const A = { provider: "A", model: "m1" }
export const B = { provider: "B", model: "m2" }
export const KEY = "planted-key" // what must never reach the daemon, as the recording has it
export const PROMPT = "planted-prompt"
export const ANSWER = "planted-answer"

const golden = linesOf("protocol.jsonl").filter((line) => line.type)
const goldenOf = (type) => golden.find((line) => line.type === type)

/** Every line that the daemons of these tests were sent, and what they said. */
export const everyLine = []
const everyReply = []

/** A reply of the real daemon, with facts of the test's own. */
export const reply = (type, facts = {}) => ({ ...goldenOf(type), ...facts })
export const use = (target, facts) =>
  reply("use", { ...target, lease: undefined, switched: false, reason: "preferred", ...facts })
export const recorded = (next) => reply("recorded", { next })

/** The first reply of all: how long the shim is to wait for the others. */
export const patient = (ms) => {
  const welcome = reply("welcome")
  return { ...welcome, settings: { ...welcome.settings, daemon_timeout_ms: ms } }
}

/** The time as the shim reads it: it stands still until a test moves it. */
export const clock = { ms: Date.now() }
Date.now = () => clock.ms

/** Waits until it is so, but not for ever. */
export async function until(question) {
  for (const end = performance.now() + 20_000; !(await question()); await pause(2))
    if (performance.now() > end) throw new Error(`this never came: ${question}`)
}

/** Whether anything had to be waited for: a clock, a file, a socket. Promises alone are no wait. */
export async function waits(act) {
  let waited = false
  setImmediate(() => (waited = true))
  await act()
  return waited
}

/** A daemon at the shim's socket. `answer[op]` makes its replies; what has none is answered plainly. */
export async function daemonOf(answer = {}) {
  const daemon = {
    lines: [],
    connections: new Set(),
    replies: 0,
    delay: 0,
    late: 0,
    silent: false,
    garbage: undefined,
  }
  let leases = 0
  const plain = {
    hello: () => patient(5_000),
    subscribe: () => reply("subscribed"),
    ping: () => reply("pong"),
    acquire: ({ purpose, provider, model, lease_for = { provider, model } }) =>
      use(lease_for, purpose === "turn" ? {} : { lease: `lease ${++leases}` }),
    report: () => recorded(),
    usage: () => recorded(),
    status: () => reply("status"),
  }
  const server = net.createServer((socket) => {
    daemon.connections.add(socket)
    socket.on("close", () => daemon.connections.delete(socket))
    socket.on("error", () => {})
    let rest = ""
    socket.setEncoding("utf8").on("data", async (text) => {
      const lines = (rest + text).split("\n")
      rest = lines.pop()
      for (const line of lines) {
        everyLine.push(line)
        const asked = JSON.parse(line)
        daemon.lines.push(asked)
        if (daemon.silent) continue
        if (daemon.delay) {
          daemon.late++
          await pause(daemon.delay, undefined, { ref: false })
          daemon.late--
        }
        const said = answer[asked.op]?.(asked) || plain[asked.op](asked)
        const id = said.id === null ? null : asked.id // null: the line could not be read
        const words = JSON.stringify({ ...said, id })
        if (!daemon.garbage) everyReply.push(words)
        if (!socket.destroyed) socket.write((daemon.garbage ?? words) + "\n")
        daemon.replies++
      }
    })
  })
  await new Promise((listening) => server.listen(process.env.RLMD_SOCKET, listening))
  daemon.push = (event) => {
    for (const socket of daemon.connections) socket.write(JSON.stringify(event) + "\n")
  }
  /** Waits until every question has its answer, and the shim has read it. */
  daemon.hasAnswered = async () => {
    await until(() => daemon.replies === daemon.lines.length)
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate) // of the event loop
  }
  daemon.said = (op) => daemon.lines.filter((line) => line.op === op)
  daemon.end = async () => {
    for (const socket of daemon.connections) socket.destroy()
    await new Promise((closed) => server.close(closed))
  }
  return daemon
}

/** What an assistant's stream looks like on the wire, and where it may break. */
const chunk = (data) => `data: ${JSON.stringify(data)}\n\n`
const TEXT = chunk({ type: "content_block_delta", delta: { type: "text_delta", text: ANSWER } })
const ERROR = { type: "error", error: { type: "overloaded_error", message: "Overloaded" } }

/** Providers on loopback; `queues[name]` holds what the next requests there get. */
export async function providersOf(queues = {}) {
  const providers = { requests: [], queues }
  const server = http.createServer(async (request, response) => {
    const name = request.url.split("/")[1]
    for await (const _ of request);
    providers.requests.push({ name, headers: request.headers })
    const what = queues[name]?.shift() ?? "ok"
    const limited = { "content-type": "application/json", "retry-after": "60", "x-account": KEY }
    if (/^\d/.test(what)) {
      const message = "Too many requests. ".repeat(1000)
      const body = { type: "error", error: { type: "rate_limit_error", message } }
      return response.writeHead(Number(what), limited).end(JSON.stringify(body))
    }
    if (what === "drop") return request.socket.destroy()
    response.writeHead(200, {
      "content-type": "text/event-stream",
      "anthropic-ratelimit-requests-remaining": "999",
      "set-cookie": KEY,
    })
    response.write(TEXT)
    await pause(1)
    if (what === "break") return request.socket.destroy()
    response.end(what === "overloaded" ? chunk(ERROR) : TEXT)
  })
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening))
  const { port } = server.address()
  providers.url = (name) => `http://127.0.0.1:${port}/${name}/v1`
  providers.asked = () => providers.requests.map(({ name }) => name)
  providers.end = () =>
    new Promise((closed) => (server.closeAllConnections(), server.close(closed)))
  return providers
}

/** OpenCode's request to a provider, with all that must stay in the process. */
const about = (headers, signal) => ({
  method: "POST",
  signal,
  headers: { "content-type": "application/json", authorization: `Bearer ${KEY}`, ...headers },
  body: JSON.stringify({ messages: [{ role: "user", content: PROMPT }] }),
})
export const send = (fetch, url, headers = {}, signal) => fetch(url, about(headers, signal))
export const requestTo = (url, signal) => new Request(url, about({}, signal))
