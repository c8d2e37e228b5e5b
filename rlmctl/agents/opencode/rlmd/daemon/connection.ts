// The way to rlmd: one connection that heals by itself, a deadline on every question, and no wait
// where nobody answers.

import net from "node:net"
import { remember } from "../remember.ts"
import { start } from "./start.ts"
import { messageOf, type Message, type Notice, type Settings } from "./messages.ts"

export const VERSION: string = "@VERSION@"
const SOCKET: string = process.env.RLMD_SOCKET || "@SOCKET@"
const NOTICES = ["switched", "warning"]
const PAUSE = 500 // ms from one try to reach a daemon that is gone to the next
const LONGEST_PAUSE = 30_000 // ms, where nobody asks anything

const DEFAULTS: Settings = {
  daemon_timeout_ms: 150,
  first_byte_ms: 0, // until a daemon has said otherwise: nobody would use what a timeout tells
  stall_ms: 0,
  wait_ms: 120_000,
  stderr: true,
}

type Call = {
  line: string
  /** A report under a lease: it counts once however often it arrives, so it is sent until a daemon has answered. */
  mustArrive: boolean
  answer: (message?: Message) => void
}

export class Connection {
  readonly settings: Settings = { ...DEFAULTS }
  readonly #directory: string
  readonly #onNotice: (notice: Notice) => void
  readonly #calls = new Map<number, Call>() // without an answer so far
  #socket: net.Socket | undefined
  #lastId = 0
  #isTrusted = true // until the daemon is silent or gone, and again from its next word on
  #isClosed = false
  #pause = PAUSE
  #lastTry = -Infinity
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(directory: string, onNotice: (notice: Notice) => void) {
    this.#directory = directory
    this.#onNotice = onNotice
  }

  /** The daemon's answer, or undefined where none comes within the deadline. */
  ask(op: string, fields: object = {}): Promise<Message | undefined> {
    const mustArrive = "lease" in fields
    if (!this.#socket) this.#connect()
    if (this.#isClosed || !(this.#isTrusted || mustArrive)) return Promise.resolve(undefined)
    return new Promise((resolve) => {
      const id = ++this.#lastId
      // A busy process finds its timer due before it has read what came in time: it reads that first.
      const onLate = () => setImmediate(() => this.#doWithout(id))
      const timer = setTimeout(onLate, this.settings.daemon_timeout_ms)
      const answer = (message?: Message) => {
        clearTimeout(timer)
        resolve(message)
      }
      const line = lineOf(op, id, fields)
      remember(this.#calls, id, { line, mustArrive, answer })
      this.#socket?.write(line)
      if (!this.#isTrusted) answer()
    })
  }

  /** Gives back what a lease has reserved for a request that is not made. */
  giveBack(lease: string, { provider, model }: { provider: string; model: string }): void {
    void this.ask("report", { lease, provider, model, outcome: "unsent", retry: false })
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#socket?.end()
  }

  /** A question finds the connection made where there is a daemon; where there was none, a moment is left. */
  #connect(): void {
    if (this.#isClosed || this.#socket || performance.now() < this.#lastTry + PAUSE) return
    this.#lastTry = performance.now()
    clearTimeout(this.#timer)
    let rest = ""
    const socket = net.connect(SOCKET).unref().setEncoding("utf8")
    this.#socket = socket
    socket.on("data", (text: string) => {
      const lines = (rest + text).split("\n")
      rest = lines.pop() ?? ""
      try {
        for (const line of lines) this.#receive(line)
      } catch {
        socket.destroy() // whoever this is, it is no rlmd
      }
    })
    socket.on("error", () => start(SOCKET)) // a close follows
    socket.on("close", () => this.#onLost())
    const self = { client: "opencode-shim", version: VERSION, pid: process.pid }
    socket.write(lineOf("hello", 0, { ...self, directory: this.#directory }))
    socket.write(lineOf("subscribe", 0, { events: NOTICES }))
    for (const call of this.#calls.values()) socket.write(call.line)
  }

  #receive(line: string): void {
    const { id, message } = messageOf(line)
    if (message.type === "event") return this.#onNotice(message)
    if (message.type === "welcome") Object.assign(this.settings, message.settings)
    this.#isTrusted = true
    this.#pause = PAUSE
    // Answers come in order. The refusal of a line that could not be read names no question.
    const isUnread = message.type === "error" && id === undefined
    const asked = isUnread ? this.#calls.keys().next().value : id
    const call = asked === undefined ? undefined : this.#calls.get(asked)
    if (asked !== undefined) this.#calls.delete(asked) // refused or not, it is not sent again
    call?.answer(message.type === "error" ? undefined : message)
    if (!call && message.type === "use" && message.lease) this.giveBack(message.lease, message)
  }

  #doWithout(id: number): void {
    const call = this.#calls.get(id)
    if (!call) return
    this.#isTrusted = false
    call.answer()
    if (!call.mustArrive) this.#calls.delete(id)
  }

  #onLost(): void {
    this.#socket = undefined
    this.#isTrusted = false
    for (const id of this.#calls.keys()) this.#doWithout(id)
    if (this.#isClosed) return
    this.#timer = setTimeout(() => this.#connect(), this.#pause).unref()
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE)
  }
}

const lineOf = (op: string, id: number, fields: object) =>
  JSON.stringify({ ...fields, op, id }, wellFormed) + "\n"

/** Half a character, where something was cut, would make the whole line unreadable. */
const wellFormed = (_: string, value: unknown) =>
  typeof value === "string" ? value.toWellFormed() : value
