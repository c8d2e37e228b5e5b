// The way to rlmd: one connection, a deadline on every question, and no wait where nobody answers.

import net from "node:net"
import { start } from "./start.ts"

export const VERSION: string = "@VERSION@"
const SOCKET: string = process.env.RLMD_SOCKET || "@SOCKET@"
export const ABSENT = "rlmd is not running. Start it with: rlmctl start"
const NOTICES = ["switched", "warning"]
const PAUSE = 500 // ms until the next try to reach a daemon that is gone

export type Target = { provider: string; model: string }
/** What the daemon says; its protocol.md has the fields of each type. */
export type Reply = Target & { type: string; message: string; [field: string]: any }
type Call = { line: string; kept: boolean; answer: (reply?: Reply) => void }

/** Puts it into the map, which forgets its oldest rather than grow without end. */
export function remember<K, V>(map: Map<K, V>, key: K, value: V): V {
  map.set(key, value)
  if (map.size > 1000) map.delete(map.keys().next().value!)
  return value
}

/** Half a character, where something was cut, would make the whole line unreadable. */
const wellFormed = (_: string, value: unknown) =>
  typeof value === "string" ? value.toWellFormed() : value

/** A connection that heals by itself. `hear` gets the events that the daemon pushes. */
export function daemonFor(directory: string, hear: (event: Reply) => void) {
  const settings = { daemon_timeout_ms: 150, first_byte_ms: 0, wait_ms: 120_000, stderr: true }
  const calls = new Map<number, Call>() // without a reply so far
  let socket: net.Socket | undefined
  let lastId = 0
  let trusted = true // until it is silent or gone, and again from its next word on
  let closed = false

  const lineOf = (op: string, id: number, fields: object) =>
    JSON.stringify({ ...fields, op, id }, wellFormed) + "\n"

  /** The reply, or undefined where there is none in time. What has a lease counts once however
   *  often it arrives, so it is sent until it is answered, to the next daemon if need be. */
  function ask(op: string, fields: object = {}): Promise<Reply | undefined> {
    const kept = "lease" in fields
    if (closed || !(trusted || kept)) return Promise.resolve(undefined)
    return new Promise((resolve) => {
      const id = ++lastId
      const late = () => calls.has(id) && doWithout(id)
      // A busy process finds its timer due before it has read what came in time: that it does first.
      const timer = setTimeout(setImmediate, settings.daemon_timeout_ms, late)
      const answer = (reply?: Reply) => (clearTimeout(timer), resolve(reply))
      const call = remember(calls, id, { line: lineOf(op, id, fields), kept, answer })
      if (socket) socket.write(call.line)
      else if (trusted) connect()
      if (!trusted) answer()
    })
  }

  function connect() {
    if (closed) return
    let rest = ""
    socket = net.connect(SOCKET).unref().setEncoding("utf8")
    socket.on("data", (text: string) => {
      const lines = (rest + text).split("\n")
      rest = lines.pop() ?? ""
      try {
        for (const line of lines) receive(JSON.parse(line))
      } catch {
        socket?.destroy() // whoever this is, it is no rlmd
      }
    })
    socket.on("error", () => start(SOCKET)) // a close follows
    socket.on("close", lost)
    const self = { client: "opencode-shim", version: VERSION, pid: process.pid, directory }
    socket.write(lineOf("hello", 0, self) + lineOf("subscribe", 0, { events: NOTICES }))
    for (const call of calls.values()) socket.write(call.line)
  }

  function receive(reply: Reply) {
    if (reply.type === "event") return hear(reply)
    if (reply.type === "welcome") Object.assign(settings, reply.settings)
    trusted = true
    // Replies come in order. A line that could not be read has none by its id, and is not sent again.
    const unread = reply.type === "error" && typeof reply.id !== "number"
    const id = unread ? calls.keys().next().value : reply.id
    const call = calls.get(id)
    calls.delete(id)
    call?.answer(reply)
    if (!call && reply.lease) void ask("report", { ...reply, outcome: "unsent", retry: false })
  }

  function doWithout(id: number) {
    trusted = false
    calls.get(id)?.answer()
    if (!calls.get(id)?.kept) calls.delete(id)
  }

  function lost() {
    socket = undefined
    trusted = false
    for (const id of calls.keys()) doWithout(id)
    setTimeout(connect, PAUSE).unref()
  }

  const close = () => ((closed = true), socket?.end())
  return { settings, ask, close }
}
