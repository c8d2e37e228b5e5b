// What is told of an error: the fields that rlmd reads of it, and no other. See redaction.ts for what
// is taken out of those.

import { CODES, NOT_SAID, SENTENCES } from "./fields.ts"
import { HEADERS, PATTERNS } from "./headers.ts"
import { documents, embedded, isObject, type Members } from "./json.ts"
import type { Redaction } from "./redaction.ts"
import { sse, type Happening } from "./sse.ts"

const [DEPTH, ITEMS, VALUES] = [12, 32, 64] // of one error
const HEADER = 300 // characters of a header's value
const TOLD = new RegExp(`^(?:${[...HEADERS, ...PATTERNS].join("|")})$`)
const FIELDS = new Set([...CODES, ...SENTENCES])
const IN_WORDS = new Set(SENTENCES)
/** Where an error repeats the request or the answer. */
const REPEATS = new Set(
  [...NOT_SAID, "ctx", "flagged_input", "request", "contents", "content", "system"].concat(
    ["tools", "functions", "function", "parameters", "arguments"], // with titles of their own
  ),
)
/** One of these is in every error event; the others need no parsing. */
const TALKS = /"error"|xception|"success"|"status_code"|response\.failed/

export type Facts = { status?: number; headers: Record<string, string>; body?: string }
type Answer = { status?: number; headers: Headers }

/** What a report says of a response, and of the text of its error. */
export function factsOf({ status, headers }: Answer, redaction: Redaction, text?: string): Facts {
  const told = [...headers].filter(([name]) => TOLD.test(name)).slice(0, VALUES)
  const values = redaction.clean(told.map(([, value]) => value.slice(0, HEADER)))
  const named = Object.fromEntries(told.map(([name], at) => [name, values[at] ?? ""]))
  return { status, headers: named, body: text === undefined ? text : wordsOf(text, redaction) }
}

/** What is told of an error's text, which may be JSON, a stream, a sentence or a page. */
export function wordsOf(text: string, redaction: Redaction): string {
  const isStream = /^(?:data|event|id|retry)?:/.test(text)
  if (isStream)
    return eventsOf(text)
      .map((event) => errorIn(event, redaction) ?? "")
      .join("\n")
  const values = documents(text).map((value) => reduced(value, redaction))
  if (values.length) return written(values, redaction)
  const inside = embedded(text)
  const sentence = redaction.knowsBody ? (redaction.clean([inside?.sentence ?? text])[0] ?? "") : ""
  return inside ? sentence + written([reduced(inside.value, redaction)], redaction) : sentence
}

/** The last event first: an error ends a stream. */
function eventsOf(text: string): Happening[] {
  const reader = sse()
  const events = [...reader.read(new TextEncoder().encode(text)), ...reader.end()]
  return events.toReversed().slice(0, ITEMS)
}

/** The error that an event of an answer is, without what else it holds: that may be the answer. */
export function errorIn({ name, data }: Happening, redaction: Redaction): string | undefined {
  const isNamed = name === "error"
  if (!isNamed && !TALKS.test(data)) return
  const values = documents(data)
  if (isNamed) {
    const error = values.length ? values : data || "error"
    return written([reduced({ type: "error", error }, redaction)], redaction)
  }
  const errors = values.flatMap((value) => (Array.isArray(value) ? value.slice(0, ITEMS) : [value]))
  const error = errors.map(errorPart).find(Boolean)
  return error && written([reduced(error, redaction)], redaction)
}

/** The part of an event that speaks of an error. */
function errorPart(value: unknown): Members | undefined {
  if (!isObject(value)) return
  const { response, choices, base_resp: base, type, object, status_code: status } = value
  const listed = Array.isArray(choices) ? choices.slice(0, ITEMS) : []
  const holders = [value, response, ...listed].filter(isObject)
  const errors = holders.map(({ error }) => error).filter((error) => isTold(error))
  const thrown = Object.entries(value).filter(([name]) => name.endsWith("Exception"))
  const refused = isObject(base) && typeof base.status_code === "number" && base.status_code !== 0
  const failed =
    [type, object].includes("error") ||
    type === "response.failed" ||
    value.success === false ||
    listed.some((choice) => isObject(choice) && choice.finish_reason === "error")
  const hasStatus = typeof status === "number" && status >= 400
  if (!(errors.length || thrown.length || refused || failed || hasStatus)) return
  const { choices: _answer, response: _response, error: _error, ...rest } = value
  const kind = failed ? { type: "error" } : {}
  return { ...rest, ...kind, ...(errors.length ? { error: errors } : {}) }
}

const isTold = (error: unknown) =>
  Boolean(error) && !(isObject(error) && Object.keys(error).length === 0)

/** What is left of a value: the members that tell, at whatever depth. */
function reduced(value: unknown, redaction: Redaction): unknown {
  let left = VALUES
  const ofText = (text: string, key: string, depth: number): unknown => {
    const inside = embedded(text)
    const sentence = inside?.sentence ?? text
    const isTold = FIELDS.has(key) && (redaction.knowsBody || !IN_WORDS.has(key)) && left-- > 0
    if (!inside) return isTold ? sentence : undefined
    return [of(inside.value, key, depth + 1), isTold ? sentence : undefined]
  }
  const of = (value: unknown, key: string, depth: number): unknown => {
    if (depth > DEPTH || left <= 0) return
    if (typeof value === "string") return ofText(value, key, depth)
    if (Array.isArray(value)) {
      const items = value.slice(0, ITEMS).map((item) => of(item, key, depth + 1))
      return items.some((item) => item !== undefined) ? items : undefined
    }
    if (!isObject(value)) return FIELDS.has(key) && left-- > 0 ? value : undefined
    const members = Object.entries(value).filter(([name]) => !REPEATS.has(name.toLowerCase()))
    const told = members.flatMap(([name, inner]): [string, unknown][] => {
      const lower = name.toLowerCase()
      const isHeader = key === "headers" && TOLD.test(lower)
      const kept = isHeader ? headerOf(inner) : of(inner, lower, depth + 1)
      return kept === undefined ? [] : [[name, kept]]
    })
    // That it is JSON, and so the provider's own word, is told even where no member tells.
    if (told.length || depth > 0) return told.length ? Object.fromEntries(told) : undefined
    return members.length ? { type: null } : {}
  }
  return of(value, "", 0)
}

const headerOf = (value: unknown) =>
  typeof value === "string" || typeof value === "number"
    ? String(value).slice(0, HEADER)
    : undefined

/** Writes values as JSON, one a line, with each text of theirs redacted. */
function written(values: unknown[], redaction: Redaction): string {
  const texts: string[] = []
  const collect = (_: string, value: unknown) => {
    if (typeof value === "string") texts.push(value)
    return value
  }
  for (const value of values) JSON.stringify(value, collect)
  const clean = redaction.clean(texts).values()
  const replace = (_: string, value: unknown) =>
    typeof value === "string" ? (clean.next().value ?? "") : value
  return values.map((value) => JSON.stringify(value, replace) ?? "").join("\n")
}
