// Looks at SQL for the few statements that mean something else on a shared session.
//
// All clients share the one session of PGlite. A statement that changes the session for everybody is rewritten or noted here:
//   LISTEN c            passed on, and noted: the front sends notifications of c to this client
//   UNLISTEN, DEALLOCATE ALL   would take away other clients' channels and statements: done by the front, for this client
//   PREPARE, EXECUTE, DEALLOCATE name     the client's name becomes the name that the statement has in the backend
//   DISCARD ALL         becomes RESET ALL, and the front does the rest for this client
//   COPY … FROM STDIN   noted: its data must be complete before it can run (copy.mjs)
// Where such a statement stands in a function, it is refused (guard.mjs). Settings are noticed there, too.
//
// Text is handled as latin1, one character a byte, so that positions and bytes are the same in any encoding.

const NOTHING = 'UNLISTEN "-"' // a statement that does nothing; "-" is no channel of ours
const CHANNEL_BYTES = 63 // Postgres cuts identifiers at NAMEDATALEN - 1
const HEAD_TOKENS = 16 // what is looked for is at the head; an INSERT of a million values must not be kept

// Settings that cannot do anything here: the timeouts need signals and timers that PGlite does not have (backend.mjs), and the
// application's name is shown to nobody. Clients set them on each connection; keeping them apart would cost a round trip per turn.
export const WITHOUT_EFFECT = new Set([
  'application_name',
  'client_connection_check_interval',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
  'lock_timeout',
  'statement_timeout',
  'tcp_keepalives_count',
  'tcp_keepalives_idle',
  'tcp_keepalives_interval',
  'tcp_user_timeout',
  'transaction_timeout',
])

const TOKEN = new RegExp(
  [
    String.raw`(?<space>\s+|--[^\n]*)`,
    String.raw`(?<comment>/\*)`,
    String.raw`(?<escaped>[eE]')`,
    String.raw`(?<string>')`,
    String.raw`(?<dollar>\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$)`,
    String.raw`(?<quoted>")`,
    String.raw`(?<word>[A-Za-z_\x80-\xff][\w$\x80-\xff]*)`,
    String.raw`(?<other>[^])`,
  ].join('|'),
  'y',
)

const SPECIAL = /^(?:listen|unlisten|prepare|execute|explain|deallocate|discard|copy)$/
const FIRST_WORD = /^[\s;(]*([A-Za-z]+)/

/**
 * What is special about `source`: null, or {source, effects, copyIn} with the text to run instead.
 * `names` has the backend's names of the client's prepared statements (names.mjs).
 */
export function inspect(source, names) {
  if (!maybeSpecial(source)) return null
  const statements = split(source)
  const found = { source: '', effects: [], copyIn: false }
  let copied = 0
  for (const statement of statements) {
    const replacement = look(source, statement, found.effects, names)
    if (replacement === null) continue
    found.source += source.slice(copied, statement.tokens[0].start) + replacement
    copied = statement.end
  }
  found.source += source.slice(copied)
  found.copyIn = statements.length === 1 && statements[0].copyIn
  return found
}

// Nearly every statement is plain: it starts with another word, and nothing follows it.
function maybeSpecial(source) {
  const word = FIRST_WORD.exec(source)
  if (!word) return source.trim() !== ''
  const semicolon = source.indexOf(';')
  if (semicolon >= 0 && semicolon < source.length - 1) return true
  return SPECIAL.test(word[1].toLowerCase())
}

function look(source, statement, effects, names) {
  const { tokens } = statement
  const [first, second, third] = tokens.map((token) => token.name)
  if (first === 'listen' && second) effects.push({ kind: 'listen', channel: second.slice(0, CHANNEL_BYTES) })
  if (first === 'unlisten') return unlisten(second ?? '*', effects)
  if (first === 'prepare' && second && second !== 'transaction') return renamed(source, statement, tokens[1], names.define(second))
  if (first === 'execute' || first === 'explain') return execute(source, statement, names)
  if (first === 'deallocate') return deallocate(tokens, second === 'prepare' ? third : second, effects, names)
  if (first === 'discard' && second === 'all') return discardAll(effects)
  return null
}

function unlisten(channel, effects) {
  effects.push({ kind: 'unlisten', channel: channel === '*' ? null : channel.slice(0, CHANNEL_BYTES) })
  return NOTHING
}

// `EXECUTE name`, also behind EXPLAIN and its options.
function execute(source, statement, names) {
  const { tokens } = statement
  const name = tokens[tokens.findIndex((token) => token.name === 'execute' && !token.quoted) + 1]
  const known = names.serverName(name?.name)
  return known === undefined ? null : renamed(source, statement, name, known)
}

const renamed = (source, { tokens, end }, token, name) =>
  `${source.slice(tokens[0].start, token.start)}"${name}"${source.slice(token.end, end)}`

function deallocate(tokens, name, effects, names) {
  if (name === 'all' && !tokens.at(-1).quoted) {
    effects.push({ kind: 'deallocate-all' })
    return NOTHING
  }
  const known = names.serverName(name)
  if (known === undefined) return null
  effects.push({ kind: 'forget', name })
  return `DEALLOCATE "${known}"`
}

function discardAll(effects) {
  effects.push({ kind: 'unlisten', channel: null }, { kind: 'deallocate-all' }, { kind: 'discard' })
  return 'RESET ALL'
}

/** Cut at the semicolons that are in no string, comment or parenthesis. Of each statement only the head is kept. */
function split(source) {
  const statements = []
  let depth = 0
  let statement = null
  for (const token of tokensOf(source)) {
    if (token.name === '(') depth += 1
    if (token.name === ')') depth -= 1
    if (token.name === ';' && depth <= 0) statement = null
    else if (statement) add(statement, token)
    else statements.push((statement = newStatement(token)))
  }
  return statements
}

const newStatement = (token) => ({ tokens: [token], last: token.name, end: token.end, copyIn: false })

function add(statement, token) {
  if (statement.tokens.length < HEAD_TOKENS) statement.tokens.push(token)
  if (token.name === 'stdin' && statement.last === 'from') statement.copyIn = statement.tokens[0].name === 'copy'
  statement.last = token.name
  statement.end = token.end
}

function* tokensOf(source) {
  TOKEN.lastIndex = 0
  for (let at = 0; at < source.length; ) {
    TOKEN.lastIndex = at
    const { groups, 0: found } = TOKEN.exec(source)
    const end = endOf(source, at, found, groups)
    if (!groups.space && !groups.comment) yield tokenOf(groups, source.slice(at, end), at, end)
    at = end
  }
}

// Loops over indexOf, not one regular expression each: a literal may be megabytes long.
function endOf(source, at, found, groups) {
  const from = at + found.length
  if (groups.comment) return afterComment(source, at)
  if (groups.quoted) return afterQuote(source, from, '"')
  if (groups.string) return afterQuote(source, from, "'")
  if (groups.escaped) return afterEscaped(source, from)
  if (!groups.dollar) return from
  const close = source.indexOf(found, from)
  return close < 0 ? source.length : close + found.length
}

function afterQuote(source, from, quote) {
  for (let at = source.indexOf(quote, from); at >= 0; at = source.indexOf(quote, at + 2)) {
    if (source[at + 1] !== quote) return at + 1
  }
  return source.length
}

function afterEscaped(source, from) {
  const mark = /['\\]/g
  mark.lastIndex = from
  for (let found; (found = mark.exec(source)); mark.lastIndex += 1) {
    if (found[0] === "'" && source[found.index + 1] !== "'") return found.index + 1
  }
  return source.length
}

// Comments nest in SQL.
function afterComment(source, start) {
  const mark = /\/\*|\*\//g
  mark.lastIndex = start
  for (let depth = 0, found; (found = mark.exec(source)); ) {
    depth += found[0] === '/*' ? 1 : -1
    if (depth === 0) return mark.lastIndex
  }
  return source.length
}

function tokenOf(groups, found, start, end) {
  const quoted = groups.quoted !== undefined
  return { name: quoted ? unquote(found) : nameOf(groups), quoted, start, end }
}

const unquote = (found) => found.slice(1, -1).replaceAll('""', '"')

// Only ASCII letters are folded, as Postgres does in UTF-8; a string is no name.
function nameOf({ word, other }) {
  if (word) return word.replace(/[A-Z]/g, (capital) => capital.toLowerCase())
  return other ?? ''
}
