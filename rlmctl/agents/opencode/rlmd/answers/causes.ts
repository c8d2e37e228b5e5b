// What is told of a request that got no answer, and the error that OpenCode's SDK gets in the middle of one.

import { isObject } from "./json.ts"
import { wordsOf } from "./errors.ts"
import type { Redaction } from "./redaction.ts"

/** What went wrong: the error's name, its code or that of what caused it, its message. */
export function causeOf(error: unknown, redaction: Redaction): string {
  const { name, code, message, cause } = partsOf(error)
  const told = `${name ?? "Error"}: ${code ?? partsOf(cause).code ?? ""}`
  const said = typeof message === "string" ? wordsOf(message, redaction) : ""
  return `${redaction.clean([told])[0] ?? ""} ${said}`
}

const partsOf = (error: unknown): Record<string, unknown> =>
  error instanceof Error
    ? { ...error, name: error.name, message: error.message, cause: error.cause }
    : isObject(error)
      ? error
      : { message: error }

/** The same as an error of the SDK's, where a response has begun already. */
export async function asError(response: Response): Promise<Error> {
  const said: unknown = await response.json()
  const error = isObject(said) && isObject(said.error) ? said.error : {}
  return Object.assign(new Error(String(error.message)), {
    [Symbol.for("vercel.ai.error")]: true,
    [Symbol.for("vercel.ai.error.AI_APICallError")]: true,
    statusCode: response.status,
    isRetryable: response.status === 429,
    responseHeaders: Object.fromEntries(response.headers),
  })
}
