import { afterAll } from "bun:test";
import { end } from "./at_end.ts";

/** Of every test run, by bunfig.toml: bun runs it once, after the last file. */
afterAll(end);
