import { type Asked, asRecorded, type Bases } from "../handler/asked.ts";
import type { Handler } from "../handler/model.ts";
import { isSame } from "../same.ts";
import type { Intent } from "./desire.ts";

/**
 * What is asked for, with each preset as it was when its handler was installed: a new release alone changes
 * nothing on a node. Where the files of that definition are gone and those of the present one are there, it
 * is the node that has changed.
 *
 * @param present whether everything that a handler needs is on the host
 */
export function settle(
  intent: Intent,
  bases: Bases,
  present: (handler: Handler) => boolean,
): { readonly intent: Intent; readonly notes: readonly string[] } {
  if (intent.command === "uninstall" || intent.command === "rollback") return { intent, notes: [] };
  const notes: string[] = [];
  const handlers = intent.handlers.map((asked): Asked => {
    const { name } = asked.handler;
    const before = asRecorded(asked, Object.hasOwn(bases, name) ? bases[name] : undefined);
    if (before === undefined || isSame(before.handler, asked.handler)) return before ?? asked;
    if (!present(before.handler) && present(asked.handler)) {
      notes.push(`handler '${name}' is resolved anew, as its files are not where they were`);
      return asked;
    }
    notes.push(
      `handler '${name}' keeps the definition that it was installed with; --update-presets takes what preset '${asked.basis?.preset}' is now`,
    );
    return before;
  });
  return { intent: { ...intent, handlers }, notes };
}

/** The bases of an owner's handlers after `intent`: those asked for now have theirs, the others keep what they had. */
export function basesAfter(intent: Intent, recorded: Bases, handlers: readonly Handler[]): Bases {
  const bases = intent.command === "rollback" ? intent.bases : recorded;
  const asked = new Map(
    intent.command === "uninstall" || intent.command === "rollback"
      ? []
      : intent.handlers.map(({ handler, basis }) => [handler.name, basis]),
  );
  return Object.fromEntries(
    handlers.flatMap(({ name }) => {
      const basis = asked.has(name) ? asked.get(name) : Object.hasOwn(bases, name) ? bases[name] : undefined;
      return basis === undefined ? [] : [[name, basis]];
    }),
  );
}
