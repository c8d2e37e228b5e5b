// What the daemon says, as types: docs/protocol.md has the fields of each message.
//
// A line from the socket is unknown until `messageOf` has looked at it. A message that this version does
// not know is no mistake: a newer daemon may say more.

export type Target = { provider: string; model: string }

/** The provider to use. `lease` is there where a request has been reserved. */
export type Use = Target & { type: "use"; lease?: string; reason: string; message: string }

export type Candidate = Target & { until: string | null }

/** No provider has room. `brief` is `message` without words that look like a provider's error. */
export type Wait = {
  type: "wait"
  retry_at: string | null
  retry_after_ms: number | null
  message: string
  brief: string
  candidates: Candidate[]
}

/** The daemon does not manage this provider and model. */
export type Pass = { type: "pass" }

export type Decision = Use | Wait | Pass

/** A report was taken in. `next` is where a failed request goes on. */
export type Recorded = { type: "recorded"; next?: Use | Wait }

/** The `[agent]` table of the configuration; times are milliseconds. */
export type Settings = {
  daemon_timeout_ms: number
  first_byte_ms: number
  stall_ms: number
  wait_ms: number
  stderr: boolean
}
export type Welcome = { type: "welcome"; settings: Partial<Settings> }

export type Status = { type: "status"; text: string }

/** Something that a person wants to know, pushed without a question. */
export type Notice = {
  type: "event"
  event: string
  message: string
  model?: string
  session?: string
  to?: string
}

export type Refused = { type: "error"; message: string }
export type Other = { type: "other" }

export type Message = Decision | Recorded | Welcome | Status | Notice | Refused | Other

type Fields = Record<string, unknown>

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value)
const isText = (value: unknown) => typeof value === "string"
const isAbsent = (value: unknown) => value === undefined || value === null
const isTarget = ({ provider, model }: Fields) => isText(provider) && isText(model)

const FITS: Record<string, (fields: Fields) => boolean> = {
  use: (it) => isTarget(it) && isText(it.reason) && isText(it.message),
  wait: (it) =>
    isText(it.message) &&
    isText(it.brief) &&
    (it.retry_after_ms === null || typeof it.retry_after_ms === "number") &&
    Array.isArray(it.candidates) &&
    it.candidates.every((one) => isObject(one) && isTarget(one)),
  pass: () => true,
  recorded: ({ next }) => isAbsent(next) || (isObject(next) && fits(next, ["use", "wait"])),
  welcome: ({ settings }) => isObject(settings),
  status: ({ text }) => isText(text),
  event: ({ event, message }) => isText(event) && isText(message),
  error: ({ message }) => isText(message),
}

const fits = (fields: Fields, types: string[]): boolean =>
  types.includes(String(fields.type)) && FITS[String(fields.type)]!(fields)

/** The message that a line holds, and the number of the question that it answers.
 *  Throws where the line is no message of rlmd's. */
export function messageOf(line: string): { id: number | undefined; message: Message } {
  const fields: unknown = JSON.parse(line)
  if (!isObject(fields) || !isText(fields.type)) throw new TypeError("no message of rlmd's")
  const id = typeof fields.id === "number" ? fields.id : undefined
  const isKnown = Object.hasOwn(FITS, String(fields.type)) && fits(fields, Object.keys(FITS))
  return { id, message: isKnown ? (fields as Message) : { type: "other" } }
}

/** What the daemon has decided, if that is what the message says. */
export function decisionIn(message: Message | undefined): Decision | undefined {
  switch (message?.type) {
    case "use":
    case "wait":
    case "pass":
      return message
  }
}

export const isSame = (one: Target, other: Target): boolean =>
  one.provider === other.provider && one.model === other.model
