// A map that forgets.

const MOST = 1000

/** Puts a value into the map. A map that is full forgets what was put into it longest ago. */
export function remember<K, V>(map: Map<K, V>, key: K, value: V): V {
  map.delete(key)
  map.set(key, value)
  if (map.size > MOST) map.delete(map.keys().next().value!)
  return value
}
