/** What stands in the way of a live picture, said where the picture would be. */

import { byId, element, say } from "./dom.js";
import { state as words } from "./words.js";
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
    const gathering = words.learning(gathered, needed);
    say("learning-text", discovering ? words.gathered(status.detail) : gathering);
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
    // an option is not broken after its hyphens
    item.append(...line.split(/(--[\w-]+)/).map((part, i) => (i % 2 ? element("code", { text: part }) : part)));
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
  if (why !== null) {
    say("stale-age", words.old(age));
    say("stale-why", why);
  }
  const title = why === null ? "Latticewatch" : words.title(age);
  if (document.title !== title) document.title = title;
  const icon = why === null ? "favicon.svg" : "favicon-old.svg";
  if (byId("icon").getAttribute("href") !== icon) byId("icon").setAttribute("href", icon);
}

/** @param {Connection} connection @param {Status | null} status */
function reasonOf(connection, status) {
  if (connection.state === "lost") return words.noAnswer;
  if (status?.phase === "stalled") return words.stopped;
  if (status?.phase === "waiting") return words.ended;
  return null;
}

/** Why a picture is old though frames come. @param {number | null} age [s] @param {number | null} fps */
export function lateness(age, fps) {
  return age !== null && fps && age > LATE_S + LATE_FRAMES / fps ? words.late : null;
}

/** @param {Situation} situation */
function showBanner(situation) {
  const notice = bannerOf(situation);
  const banner = byId("banner");
  banner.hidden = notice === null;
  if (!notice) return;
  banner.dataset.kind = notice.kind;
  say("banner-time", notice.time);
  say("banner-text", notice.text);
  byId("retry").hidden = notice.kind !== "lost";
}

/**
 * The worst that is to be said, if anything; ``time`` is the part that changes by the second.
 * @param {Situation} situation
 * @returns {{kind: "lost" | "stalled" | "ended", time: string, text: string} | null}
 */
function bannerOf({ connection, status, age, drawn }) {
  const picture = words.picture(drawn);
  if (connection.state === "lost") {
    if (connection.retryAt === undefined) return { kind: "lost", time: "", text: words.keyNeeded(picture) };
    const wait = Math.max(0, (connection.retryAt - Date.now()) / 1000);
    const time = wait < 0.5 ? words.tryingNow : words.tryingIn(wait);
    const old = age === null || drawn === null ? "" : `${words.itIsOld(age)} `;
    return { kind: "lost", time: `${old}${time}`, text: words.lost(picture) };
  }
  if (status?.phase === "stalled") {
    const time = age === null || drawn === null ? "" : words.itIsOld(age);
    return { kind: "stalled", time, text: words.stoppedBanner(picture) };
  }
  if (status?.phase === "waiting" && drawn !== null) {
    return { kind: "ended", time: age === null ? "" : words.itIsOld(age), text: words.endedBanner(picture) };
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
  const title = refusing ? words.refusing : starting ? words.starting : connected ? words.waiting : words.connecting;
  say("empty-title", title);
  byId("empty-help").hidden = !connected;
  byId("empty-try").hidden = starting || refusing;
  const sources = status?.sources ?? [];
  if (refusing) say("empty-source", [status.detail, status.notes?.[0]?.remedy].filter(Boolean).join(" "));
  else if (starting) say("empty-source", `${status.detail ?? words.loading}.`.replace(/^./, (first) => first.toUpperCase()));
  else say("empty-source", sources.length ? words.listeningTo(sources) : words.listening);
}
