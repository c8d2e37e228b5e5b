// JSON as errors bring it: whole, cut in the middle, behind a sentence, or with something behind it.

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*("?)|[{}[\],]/gs
const OBJECT = /\{\s*"/
const DEPTH = 64 // of brackets; an error needs six

export type Members = Record<string, unknown>
export const isObject = (value: unknown): value is Members =>
  typeof value === "object" && value !== null && !Array.isArray(value)

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The value that a text begins with; of a cut one what it said up to the cut. Else undefined. */
export function parsed(text: string): unknown {
  const whole = parse(text)
  if (whole !== undefined) return whole
  const { end, ends, comma, upToComma } = scan(text)
  if (end) return parse(text.slice(0, end))
  const closed = parse(text.replace(/\\+$/, "") + ends)
  return closed ?? (comma ? parse(text.slice(0, comma) + upToComma) : undefined)
}

/** Where the first value ends; or else what is open at the end of the text and at its last comma. */
function scan(text: string) {
  const open: string[] = []
  const at = { end: 0, ends: "", comma: 0, upToComma: "" }
  let quote = ""
  for (const token of text.matchAll(TOKEN)) {
    const [sign, closing] = token
    if (sign === "{" || sign === "[") open.push(sign === "{" ? "}" : "]")
    else if (sign === "}" || sign === "]") open.pop()
    else if (sign === ",") Object.assign(at, { comma: token.index, upToComma: closers(open) })
    else quote = closing ? "" : '"'
    if (open.length > DEPTH) return { ...at, ends: "", comma: 0 }
    if (!open.length && /[}\]]/.test(sign)) return { ...at, end: token.index + 1 }
  }
  return { ...at, ends: quote + closers(open) }
}

const closers = (open: string[]) => open.toReversed().join("")

/** A sentence and the object that stands behind it, as wrappers make them: `429 {"error": …}`. */
export function embedded(text: string): { sentence: string; value: unknown } | undefined {
  const start = text.search(OBJECT)
  if (start < 0) return
  const value = parsed(text.slice(start))
  if (value !== undefined) return { sentence: text.slice(0, start), value }
}

/** The values of a text that is nothing but JSON: one, or one a line. */
export function documents(text: string): unknown[] {
  if (!/^\s*[{[]/.test(text)) return []
  const whole = parse(text)
  if (whole !== undefined) return [whole]
  const lines = text.split(/\r\n|\r|\n/).filter((line) => line.startsWith("{"))
  const values = lines.map(parse).filter((value) => value !== undefined)
  return values.length ? values : [parsed(text.trim())].filter((value) => value !== undefined)
}
