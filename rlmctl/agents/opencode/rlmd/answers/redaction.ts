// What an error repeats of its request, a key or a prompt, is taken out of it before the daemon hears
// of it.

import { GAP, withoutEchoes } from "./echoes.ts"

const ENOUGH = 500 // characters of one text that are told: its beginning and its end
const END = 150
const SECRET = 8 // characters from which on a header's value, or a part of one, is taken out
const EXAMINED = 64 * 1024 // characters of an error
const BODY = 32 * 1024 * 1024 // characters of a request
const ADDRESS = /https?:\/\/\S+/g
/** Keys of others, by the forms that are known: a gateway may name its own. */
const KEY =
  /\b(?:sk|pk|rk|gsk|xai|nvapi|hf|ghp|gho|ghu|ghs|github_pat|AIza|AKIA|ASIA|eyJ)[\w.-]{16,}/g

/** What is known of a request. */
export type Sent = { headers?: Headers; url?: string; body?: unknown }

/** Stands for a body that nobody has seen. */
export const UNSEEN = Symbol("a body that was not seen")

/** The text of a request's body, where it can be had without consuming it; else undefined. */
function textOf(body: unknown): string | undefined {
  if (body === undefined || body === null) return ""
  if (typeof body === "string") return body
  if (body instanceof URLSearchParams) return [...body].flat().join("\n")
  if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) return new TextDecoder().decode(body)
  if (body instanceof FormData)
    return [...body].map(([name, value]) => (typeof value === "string" ? value : name)).join("\n")
}

/** Of one request; nothing is looked at before there is an error. */
export class Redaction {
  readonly #sent: Sent
  #read?: { secrets: string[]; body: string | undefined }

  constructor(sent: Sent) {
    this.#sent = sent
  }

  /** Of a request that is given to fetch. */
  static of(input: RequestInfo | URL, init: { headers: Headers; body?: unknown }): Redaction {
    const request = input instanceof Request ? input : undefined
    const { headers, body = request?.body } = init
    return new Redaction({ headers, url: request?.url ?? String(input), body })
  }

  #known() {
    if (this.#read) return this.#read
    const text = textOf(this.#sent.body)
    const body = text !== undefined && text.length <= BODY ? text : undefined
    return (this.#read = { secrets: secretsOf(this.#sent), body })
  }

  /** Without the request's body nobody knows what an error's sentence repeats: it is not told. */
  get knowsBody(): boolean {
    return this.#known().body !== undefined
  }

  /** The texts without what they repeat of the request, each cut, none with half a character. */
  clean(texts: string[]): string[] {
    const { secrets, body = "" } = this.#known()
    const bare = texts.map((text) => {
      const plain = text.slice(0, EXAMINED).replaceAll("\0", "").replace(ADDRESS, GAP)
      return secrets.reduce((left, secret) => left.replaceAll(secret, GAP), plain)
    })
    const told = withoutEchoes(bare, [body, ...secrets].join("\0")) // of a key, a part, too
    return told.map((text) => cut(text.replace(KEY, GAP)).toWellFormed())
  }
}

const cut = (text: string) =>
  text.length <= ENOUGH
    ? text
    : text.slice(0, ENOUGH - END - GAP.length) + GAP + text.slice(text.length - END)

/** Header values, their parts, the address's secrets; also as they look in an address or in base64. */
function secretsOf({ headers, url }: Sent): string[] {
  const found = new Set<string>()
  const add = (value: string) => {
    const parts = [value, ...value.split(/[\s,;:=&"]+/)].filter((part) => part.length >= SECRET)
    for (const part of parts)
      for (const form of [part, encoded(part), base64(part)]) if (form) found.add(form)
  }
  for (const [name, value] of headers ?? []) {
    if (name === "content-type" || name === "accept") continue // words of every error
    add(value)
    if (/^basic /i.test(value)) add(decoded(value.slice(6)))
  }
  const address = url && URL.canParse(url) ? new URL(url) : undefined
  for (const value of address?.searchParams.values() ?? []) add(value)
  for (const part of [address?.username, address?.password]) if (part) add(part)
  return [...found].sort((one, other) => other.length - one.length)
}

const attempt = (act: () => string) => {
  try {
    return act()
  } catch {
    return "" // characters that this form has no place for
  }
}
const encoded = (text: string) => attempt(() => encodeURIComponent(text))
const base64 = (text: string) => attempt(() => btoa(text).replace(/=+$/, ""))
const decoded = (text: string) => attempt(() => atob(text))
