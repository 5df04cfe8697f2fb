/**
 * Remembers the last few results of a pure function of a text. One plan reads the same file a dozen times: as it
 * is, without ours, for the edit, for its proof. The results are values that nobody changes; what is thrown is not
 * remembered, as it may name what else was passed.
 */
export function remember<Result, More extends unknown[]>(
  compute: (text: string, ...more: More) => Result,
  limit = 8,
): (text: string, ...more: More) => Result {
  const known = new Map<string, Result>();
  return (text, ...more) => {
    const found = known.get(text);
    if (found !== undefined) return found;
    const result = compute(text, ...more);
    const [oldest] = known.keys();
    if (known.size >= limit && oldest !== undefined) known.delete(oldest);
    known.set(text, result);
    return result;
  };
}
