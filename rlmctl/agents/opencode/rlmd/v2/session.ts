// What is known of the sessions of one project, and how a session is led elsewhere: OpenCode switches its
// model, for good. So what was asked for is remembered, beyond the process too, and returned to.

import { isSame, type Target } from "../daemon/messages.ts"
import { note } from "../debug.ts"
import { remember } from "../remember.ts"
import type { Attempt } from "./attempt.ts"
import { placeOf, type Host, type Model } from "./host.ts"

const SLOW = 2000 // ms: longer than that nothing of OpenCode's is waited for
const HOPS = 8 // switches of one step: OpenCode gives a step ten tries

export type Session = {
  readonly id: string
  /** What was asked for. */
  home: Model
  now: Target
  /** Where it was until it was switched: a request may still be on its way there. */
  before?: Target
  hops: number
  /** The latest request of a step or a compaction. */
  attempt?: Attempt
  /** The latest that was answered: what OpenCode says next of use is of this one. */
  answered?: Attempt
  /** Titles and summaries under way. */
  readonly aside: Set<Attempt>
}

type Kept = { home: Model; now: Target }

export class Sessions {
  readonly #host: Host
  readonly #known = new Map<string, Session>()

  constructor(host: Host) {
    this.#host = host
  }

  find(id: string): Session | undefined {
    return this.#known.get(id)
  }

  /** The session whose turn starts, on the model that it is asked on. A new session has none of its own. */
  async begin(id: string): Promise<Session | undefined> {
    const { session, model: models } = this.#host
    const ask = async () =>
      (await session.get({ sessionID: id })).model ?? (await models.default()).data
    const model = await within(SLOW, ask())
    if (!model) return undefined
    const known = this.#known.get(id)
    if (!known) return this.#use(fresh(id, (await this.#kept(id, model)) ?? model, model))
    const isMoved = !isSame(known.now, placeOf(known.home))
    if (!isSame(known.now, placeOf(model))) choose(known, model)
    else if (!isMoved) known.home = model // its variant may be another one
    known.hops = 0
    return this.#use(known)
  }

  /** The session that makes a request. A model that we did not put there was chosen by somebody else. */
  seen(id: string, model: Model): Session {
    const known = this.#known.get(id) ?? fresh(id, model, model)
    if (!isOn(known, placeOf(model))) choose(known, model)
    return this.#use(known)
  }

  /** Has the session's next request go elsewhere. False where OpenCode has no such model, or does not follow. */
  async move(session: Session, to: Target): Promise<boolean> {
    const from = session.now
    if (isSame(from, to)) return true
    const model = await this.#modelFor(session, to)
    if (!model) return false
    Object.assign(session, { now: to, before: from }) // from now on requests of either may come
    const switching = async () => {
      await this.#host.session.switchModel({ sessionID: session.id, model })
      return true
    }
    if (await within(SLOW, switching())) {
      void this.#keep(session)
      return true
    }
    Object.assign(session, { now: from, before: to })
    note("OpenCode has not switched a session's model")
    return false
  }

  /** Whether one more switch of a session's step is left. */
  mayHop(session: Session): boolean {
    session.hops += 1
    return session.hops <= HOPS
  }

  /** As OpenCode names it; at home as it was, elsewhere with the same variant where there is one. */
  async #modelFor({ home }: Session, to: Target): Promise<Model | undefined> {
    if (isSame(placeOf(home), to)) return home
    const model = { providerID: to.provider, id: to.model }
    const listed = (await within(SLOW, this.#host.model.list()))?.data ?? []
    const found = listed.find((one) => isSame(placeOf(one), to))
    if (listed.length > 0 && !found) {
      note(`OpenCode has no model ${to.provider}/${to.model}`)
      return undefined
    }
    const isKnown = found?.variants?.some(({ id }) => id === home.variant)
    return isKnown ? { ...model, variant: home.variant } : model
  }

  #use(session: Session): Session {
    return remember(this.#known, session.id, session)
  }

  /** What was asked for, where another process has led this session to where it is. */
  async #kept(id: string, model: Model): Promise<Model | undefined> {
    const kept = (await within(SLOW, this.#host.storage.get(keyOf(id)))) as Kept | undefined
    return kept?.now && kept.home && isSame(kept.now, placeOf(model)) ? kept.home : undefined
  }

  async #keep({ id, home, now }: Session): Promise<void> {
    const { storage } = this.#host
    const isHome = isSame(now, placeOf(home))
    const keeping = isHome ? storage.remove(keyOf(id)) : storage.set(keyOf(id), { home, now })
    await keeping.catch((error: unknown) => note("storage", error))
  }
}

const keyOf = (id: string) => `moved/${id}`

export const isOn = ({ now, before }: Session, place: Target): boolean =>
  isSame(now, place) || (before !== undefined && isSame(before, place))

const fresh = (id: string, home: Model, model: Model): Session => ({
  id,
  home,
  now: placeOf(model),
  hops: 0,
  aside: new Set(),
})

function choose(session: Session, model: Model): void {
  Object.assign(session, { home: model, now: placeOf(model), before: undefined })
}

/** What comes of it, or undefined where it takes longer or fails. */
export async function within<T>(
  ms: number,
  promise: Promise<T> | undefined,
): Promise<T | undefined> {
  const late = new Promise<undefined>((done) => setTimeout(done, ms, undefined).unref())
  return Promise.race([promise, late]).catch(() => undefined)
}
