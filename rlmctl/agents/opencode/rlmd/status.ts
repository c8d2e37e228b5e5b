// What a person reads who asks for the status where there is none.

export const ABSENT = "rlmd is not running. Start it with: rlmctl start"
