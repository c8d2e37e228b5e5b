// Leads each request from its announcement in `chat.headers` to the one fetch of this process. A tag, one
// header, says which is which; it is taken off before anything is sent.

import type { Model } from "@opencode-ai/sdk"
import { Redaction } from "../answers/redaction.ts"
import { note } from "../debug.ts"
import { remember } from "../remember.ts"
import type { Attempt } from "./attempt.ts"
import { send as exchange } from "./exchange.ts"

/** AWS's own trace header: no signature covers it, so a request that is signed with the tag is right without. */
const TAG = "x-amzn-trace-id"
/** A tag begins so. Another copy of the shim in this process leads the requests that it has tagged itself. */
const OURS = `rlmd-${crypto.randomUUID()}-`

const inFlight = new Map<string, Attempt>() // by tag
const bypassed = new Map<string, number>() // by provider: answers in a row whose requests did not pass here
const BYPASSED = 3 // from then on a provider has a transport of its own
let wrapper: typeof fetch | undefined
let beneath: typeof fetch | undefined // what the wrapper lies on

/** Has every request of this process pass by here. */
export function wrapFetch(): void {
  if (wrapper) return
  const original = globalThis.fetch
  const tagged = (input: RequestInfo | URL, init?: RequestInit) => pass(original, input, init)
  beneath = original
  wrapper = globalThis.fetch = Object.assign(tagged, original)
}

/** Puts back the fetch that was there, unless another plugin's lies on ours. */
export function unwrapFetch(): void {
  if (globalThis.fetch !== wrapper || !beneath) return
  globalThis.fetch = beneath
  wrapper = beneath = undefined
}

/** Tags the request that is being announced. */
export function tag(attempt: Attempt, headers: Record<string, string>): void {
  const value = OURS + attempt.id
  headers[TAG] = value
  attempt.isTagged = true
  remember(inFlight, value, attempt)
}

/** Whether a tag would be taken off again, and be the only header of its name. */
export function mayBeTagged(model: Model, provider: unknown, headers: HeadersInit): boolean {
  const { options } = (provider ?? {}) as { options?: { headers?: HeadersInit } }
  const set = [headers, model.headers, model.options?.headers, options?.headers]
  const isTaken = set.some(
    (some) => some && entriesOf(some as HeadersInit).some(([name]) => isTag(name)),
  )
  return !isTaken && (bypassed.get(model.providerID) ?? 0) < BYPASSED
}

/** A request has its answer and has not passed here: another plugin has put an older fetch back, or the
 *  provider has a transport of its own, which would send the tag along. */
export function onPassedBy(provider: string): void {
  if (globalThis.fetch === wrapper) {
    bypassed.set(provider, (bypassed.get(provider) ?? 0) + 1)
    return note("a request passed fetch by: it is counted from OpenCode's events")
  }
  wrapper = undefined
  wrapFetch()
  note("another plugin has replaced fetch: it is wrapped again")
}

/** Forgets a request that is over. */
export function forget(attempt: Attempt): void {
  inFlight.delete(OURS + attempt.id)
}

async function pass(
  send: typeof fetch,
  input: RequestInfo | URL,
  init?: RequestInit,
): Promise<Response> {
  const request = input instanceof Request ? input : undefined
  const value = tagIn(init?.headers ?? request?.headers)
  if (value === undefined) return send(input, init)
  const headers = withoutTag(init?.headers ?? request?.headers)
  const attempt = inFlight.get(value)
  if (!attempt?.expects("fetch")) return send(input, { ...init, headers }) // over, or sent already
  bypassed.delete(attempt.place.provider)
  const redaction = Redaction.of(input, { ...init, headers: new Headers(headers) })
  const stop = init?.signal ?? request?.signal
  const fetch = (signal?: AbortSignal) => send(input, { ...init, headers, signal })
  return exchange(attempt, fetch, redaction, stop)
}

function tagIn(headers: HeadersInit | undefined): string | undefined {
  if (!headers) return undefined
  const found = entriesOf(headers).find(([name, value]) => isTag(name) && value.startsWith(OURS))
  return found?.[1]
}

/** The headers in the form in which they were: order and spelling are the provider's to see. */
function withoutTag(headers: HeadersInit | undefined): HeadersInit {
  const kept = entriesOf(headers ?? []).filter(([name]) => !isTag(name))
  if (headers instanceof Headers) return new Headers(kept)
  return Array.isArray(headers) ? kept : Object.fromEntries(kept)
}

const isTag = (name: string) => name.toLowerCase() === TAG

const entriesOf = (headers: HeadersInit): [string, string][] =>
  headers instanceof Headers || Array.isArray(headers)
    ? [...(headers as Iterable<[string, string]>)]
    : Object.entries(headers)
