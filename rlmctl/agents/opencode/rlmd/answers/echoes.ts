// Finds what texts repeat of a longer one, in linear time: a request may have megabytes, an error may be
// hostile. Blanks, quotes and backslashes count for nothing: each side may be escaped in its own way.

const ECHO = 24 // characters in a row that a text repeats, at least
const WINDOW = 16 // of them, at least, that count
const RING = WINDOW - 1 // a mask: the remainder costs eight times as much in Bun
export const GAP = "…"
const [BLANK, QUOTE, APOSTROPHE, BACKSLASH] = [32, 34, 39, 92] // character codes

/** Takes out the runs that also stand in the body, however either of them escapes or breaks them. */
export function withoutEchoes(texts: string[], body: string): string[] {
  const joined = texts.join("\0")
  if (joined.length < ECHO || body.length < ECHO) return texts
  const known = new Map<number, { check: number; places: [number, number][] }>()
  const isKnown = new Uint8Array(1 << 16) // by a part of the hash: most of a body needs no more
  windows(joined, (hash, check, from, to) => {
    const found = known.get(hash)
    if (!found) known.set(hash, { check, places: [[from, to]] })
    else if (found.check === check) found.places.push([from, to])
    isKnown[hash & 0xffff] = 1
  })
  const repeated = new Uint8Array(joined.length)
  const take: See = (hash, check) => {
    const found = known.get(hash)
    if (found?.check !== check) return
    for (const [from, to] of found.places) repeated.fill(1, from, to + 1)
    known.delete(hash)
  }
  windows(body, take, isKnown)
  return without(joined, repeated).split("\0")
}

function without(text: string, repeated: Uint8Array): string {
  let [left, at] = ["", 0]
  while (at < text.length) {
    const end = repeated.indexOf(repeated[at] ? 0 : 1, at)
    const run = text.slice(at, end < 0 ? undefined : end)
    left += repeated[at] && run.length >= ECHO ? GAP : run
    at += run.length
  }
  return left
}

type See = (hash: number, check: number, from: number, to: number) => void
const BASE = 0x01000193
const GONE = new Array(WINDOW).fill(BASE).reduce<number>(Math.imul, 1) // of what leaves a window

/** Shows each window of a text whose hash may be wanted: two hashes, its first and its last place. */
function windows(text: string, see: See, wanted?: Uint8Array) {
  const [codes, places] = [new Uint16Array(WINDOW), new Int32Array(WINDOW)]
  let [hash, count] = [0, 0]
  for (let at = 0; at < text.length; at++) {
    const from = at
    let code = text.charCodeAt(at)
    if (code === BACKSLASH) {
      const escape = text.charAt(at + 1)
      if (escape && "nrtbf".includes(escape)) at++
      const number = escape === "u" ? Number.parseInt(text.slice(at + 2, at + 6), 16) : NaN
      if (Number.isNaN(number)) continue
      code = number
      at += 5
    }
    if (code === 0) count = 0 // between two texts
    if (code <= BLANK || code === QUOTE || code === APOSTROPHE) continue
    const slot = count & RING
    const gone = count < WINDOW ? 0 : codes[slot]
    hash = (Math.imul(count ? hash : 0, BASE) + code - Math.imul(gone, GONE)) | 0
    codes[slot] = code
    places[slot] = from
    count++
    if (count < WINDOW || (wanted && !wanted[hash & 0xffff])) continue
    see(hash, checkOf(codes, count), places[count & RING], at)
  }
}

/** Another hash of a window, whose first character is at `start`. */
function checkOf(codes: Uint16Array, start: number): number {
  let check = 0
  for (let at = 0; at < WINDOW; at++)
    check = (Math.imul(check, 31) + codes[(start + at) & RING]) | 0
  return check
}
