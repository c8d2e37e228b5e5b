// What a response says of limits, and how one is told where an answer has begun. Only errors are read.

const BODY = 4096 // characters of an error that are reported
const TELLING = /^(retry-after|x-codex-|x-should-retry$|content-type$)|rate-?limit/

/** What a report says of a response: none of its headers but those that tell of limits. */
export function factsOf({ status, headers }: Response, body?: string) {
  const telling = [...headers].filter(([name]) => TELLING.test(name))
  return { status, headers: Object.fromEntries(telling), body: body?.slice(0, BODY) }
}

/** Gives the data of a stream's events, chunk by chunk, wherever the chunks may end. */
export function reader(): (chunk: Uint8Array) => string[] {
  const decoder = new TextDecoder()
  let rest = ""
  return (chunk) => {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split(/\r?\n/)
    rest = lines.pop() ?? ""
    return lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5))
  }
}

/** The error of one JSON event, without what else the event holds: that may be the answer. */
export function errorIn(event: string): string | undefined {
  if (!/"error"|"response\.failed"/.test(event)) return // most events: not worth parsing
  try {
    const { type, code, message, error, response } = JSON.parse(event)
    const cause = error ?? (type === "response.failed" ? response?.error : undefined)
    if (cause || type === "error") return JSON.stringify({ type, code, message, error: cause })
  } catch {} // text that only looks like one
}

/** The error that a response is, unless it is a stream; the response itself stays unread. */
export async function errorOf(response: Response): Promise<string | undefined> {
  const type = response.headers.get("content-type") ?? ""
  if (!response.ok) return response.clone().text()
  if (/json/.test(type)) return errorIn(await response.clone().text())
}

/** What went wrong, without addresses: some carry a key. */
export const causeOf = (error: any) =>
  `${error?.name}: ${error?.code ?? ""} ${error?.message}`.replace(/https?:\S+/g, "").slice(0, BODY)

/** The same as an error of the SDK's, where a response has begun already. */
export const asError = async (response: Response) =>
  Object.assign(new Error((await response.json()).error.message), {
    [Symbol.for("vercel.ai.error")]: true,
    [Symbol.for("vercel.ai.error.AI_APICallError")]: true,
    statusCode: response.status,
    isRetryable: response.status === 429,
    responseHeaders: Object.fromEntries(response.headers),
  })
