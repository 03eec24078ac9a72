// @ts-check
/** What stands in the way of a live picture, said where the picture would be. */

import { byId, setText } from "./dom.js";
import { age as aged, fixed } from "./format.js";
/** @import {Connection, Situation, Status} from "./types.d.ts" */

const LATE_S = 5;
const LATE_FRAMES = 3;  // a slow scan shows the same picture for long, and is not late for that

/** @param {Situation} situation */
export function showNotices(situation) {
  const { connection, status, drawn } = situation;
  showBanner(situation);
  showEmptyState(connection, status, drawn);
  showStaleness(situation);

  const learning = status?.phase === "learning" && drawn !== null;
  byId("learning").hidden = !learning;
  if (learning) {
    const [gathered, needed] = status.learning;
    const discovering = status.detail !== null;
    const gathering = `Learning classes: ${gathered} of ${needed} frames gathered`;
    setText(byId("learning-text"), discovering ? `All frames gathered: ${status.detail}` : gathering);
    byId("learning-bar").max = Math.max(1, needed);
    byId("learning-bar").value = discovering ? needed : gathered;
  }
  showNotes(drawn === null ? null : status);
}

/**
 * What the service says about its own doubt in the newest frame, and what to do about it.
 * @param {Status | null} status
 */
function showNotes(status) {
  const lost = status?.lattice_found === false;
  const notes = status?.notes ?? [];
  byId("no-lattice").hidden = !lost;
  byId("notes-box").hidden = !lost && notes.length === 0;
  const lines = notes.map(({ code, text, remedy }) => (code === "no-lattice" ? text : `${text} ${remedy}`.trim()));
  const list = byId("notes");
  // a frame that says the same again does not disturb who reads it, or a screen reader
  if (lines.join("\n") === list.dataset.said) return;
  list.dataset.said = lines.join("\n");
  list.replaceChildren(...lines.map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
}

/**
 * What is old looks old: no colour, its age large over the picture, and in the tab's title and icon.
 * @param {Situation} situation
 */
function showStaleness({ connection, status, age, paused, drawn }) {
  const why = drawn === null ? null : reasonOf(connection, status) ?? (paused ? null : lateness(age, status?.fps ?? null));
  document.body.classList.toggle("old", why !== null);
  byId("stale").hidden = why === null;
  const text = aged(age);
  if (why !== null) {
    setText(byId("stale-age"), `${text} old`);
    setText(byId("stale-why"), why);
  }
  const title = why === null ? "Latticewatch" : `${text} old · Latticewatch`;
  if (document.title !== title) document.title = title;
  const icon = why === null ? "favicon.svg" : "favicon-old.svg";
  if (byId("icon").getAttribute("href") !== icon) byId("icon").setAttribute("href", icon);
}

/** @param {Connection} connection @param {Status | null} status */
function reasonOf(connection, status) {
  if (connection.state === "lost") return "the service does not answer";
  if (status?.phase === "stalled") return "frames have stopped";
  if (status?.phase === "waiting") return "the series has ended";
  return null;
}

/** Why a picture is old though frames come. @param {number | null} age [s] @param {number | null} fps */
export function lateness(age, fps) {
  return age !== null && fps && age > LATE_S + LATE_FRAMES / fps ? "frames come, and are analysed late" : null;
}

/** @param {Situation} situation */
function showBanner(situation) {
  const notice = bannerOf(situation);
  const banner = byId("banner");
  banner.hidden = notice === null;
  if (!notice) return;
  banner.dataset.kind = notice.kind;
  setText(byId("banner-time"), notice.time);
  setText(byId("banner-text"), notice.text);
  byId("retry").hidden = notice.kind !== "lost";
}

/**
 * The worst that is to be said, if anything; ``time`` is the part that changes by the second.
 * @param {Situation} situation
 * @returns {{kind: "lost" | "stalled" | "ended", time: string, text: string} | null}
 */
function bannerOf({ connection, status, age, drawn }) {
  const picture = drawn === null ? "" : ` The picture is frame ${drawn}.`;
  if (connection.state === "lost") {
    if (connection.retryAt === undefined) return { kind: "lost", time: "", text: `A key is needed.${picture}` };
    const wait = Math.max(0, (connection.retryAt - Date.now()) / 1000);
    const time = wait < 0.5 ? "Trying again now." : `Trying again in ${fixed(wait, 0)} s.`;
    const old = age === null || drawn === null ? "" : `It is ${aged(age)} old. `;
    return { kind: "lost", time: `${old}${time}`, text: `Connection to the service lost.${picture}` };
  }
  if (status?.phase === "stalled") {
    const time = age === null || drawn === null ? "" : `It is ${aged(age)} old.`;
    return { kind: "stalled", time, text: `Frames have stopped.${picture}` };
  }
  if (status?.phase === "waiting" && drawn !== null) {
    return { kind: "ended", time: age === null ? "" : `It is ${aged(age)} old.`, text: `The series has ended.${picture} Waiting for the next one.` };
  }
  return null;
}

/** @param {Connection} connection @param {Status | null} status @param {number | null} drawn */
function showEmptyState(connection, status, drawn) {
  const empty = byId("empty");
  empty.hidden = drawn !== null;
  if (drawn !== null) return;
  const connected = connection.state === "open" && status !== null;
  const starting = connected && status.phase === "starting";
  const refusing = connected && status.phase === "refusing";
  const title = refusing ? "Messages come, and none can be read" : starting ? "The service is starting" : connected ? "Waiting for frames" : "Connecting to the service";
  setText(byId("empty-title"), title);
  byId("empty-help").hidden = !connected;
  const sources = status?.sources ?? [];
  if (refusing) setText(byId("empty-source"), [status.detail, status.notes?.[0]?.remedy].filter(Boolean).join(" "));
  else if (starting) setText(byId("empty-source"), `${status.detail ?? "loading the analysis"}.`);
  else setText(byId("empty-source"), sources.length ? `Listening to ${sources.join(", ")}.` : "The service is listening.");
}
