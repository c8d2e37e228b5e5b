// Reads exchanges with providers, one JSON object a line, from stdin: a request, and the answer it gets.
// Has both generations of OpenCode make each, and writes every line that the daemon was sent.

import { readFileSync } from "node:fs"
import http from "node:http"
import { hostOf as host1Of } from "./host1.mjs"
import { hooked, modelOf } from "./hooks2.mjs"
import { A, daemonOf, everyLine, until } from "./stage.mjs"

const exchanges = readFileSync(0, "utf8").trim().split("\n").map(JSON.parse)

const server = http.createServer((request, response) => {
  const { answer } = exchanges[Number(request.url.split("/")[1])]
  response.writeHead(answer.status, answer.headers)
  response.write(answer.body)
  if (answer.breaks) setTimeout(() => response.destroy(), 20)
  else response.end()
})
await new Promise((listening) => server.listen(0, "127.0.0.1", listening))
const daemon = await daemonOf()
const reported = (session) =>
  daemon
    .said("report")
    .some((line) => line.session === session && !["accepted", "unsent"].includes(line.outcome))

/** What the request is: its address, which may hold a key too, and the rest of it. */
function requestOf({ request, dead }, at) {
  const { port } = server.address()
  const origin = dead ? "http://127.0.0.1:1" : `http://127.0.0.1:${port}`
  const { headers, body, query } = request
  return [`${origin}/${at}/v1?${query}`, { method: "POST", headers, body: JSON.stringify(body) }]
}

const host1 = host1Of({})
await host1.begin()
await until(host1.hasStatus)
for (const [at, exchange] of exchanges.entries()) {
  const session = `one ${at}`
  const live = { providerID: "A", id: "m1" }
  const about = { sessionID: session, agent: "build", model: live, provider: {} }
  const headers = {}
  await host1.tell("chat.headers", about, { headers })
  const [url, init] = requestOf(exchange, at)
  const asked = { ...init, headers: { ...init.headers, ...headers } }
  await fetch(url, asked)
    .then((response) => response.text())
    .catch(() => {})
  await until(() => reported(session))
}
await host1.end()

const host2 = await hooked(A)
for (const [at, exchange] of exchanges.entries()) {
  const session = `two ${at}`
  const about = { sessionID: session, agent: "build", kind: "primary", model: modelOf(A) }
  const request = new Request(...requestOf(exchange, at))
  await host2.tell("http.request", { ...about, request })
  try {
    const response = await fetch(request)
    const moment = await host2.tell("http.response", { ...about, request, response })
    await moment.response.text()
  } catch (error) {
    const failure = { type: "network", message: `${error.message} ${error.cause?.message}` }
    await host2.tell("retry", { ...about, error: failure, attempt: 1, decision: { retry: false } })
  }
  await until(() => reported(session))
}
await host2.leave()
await daemon.end()
server.close()
for (const line of everyLine) console.log(line)
process.exit(0)
