/** What is known of one site: class, confidence, track, position. */

import { byId, say } from "./dom.js";
import { percent } from "./format.js";
import { ROLE_NAMES } from "./live/sites.js";
import { place as places, site as words } from "./words.js";
/** @import {Look} from "./types.d.ts" */

export class SiteTooltip {
  constructor() {
    this.box = byId("tooltip");
  }

  hide() {
    this.box.hidden = true;
  }

  /**
   * @param {{sites: import("./live/sites.js").Sites, site: number, look: Look | undefined,
   *   nm: number | null, x: number, y: number, gap: number, width: number, height: number}} what
   *   position and room in CSS pixels of the stage
   */
  show({ sites, site, look, nm, x, y, gap, width, height }) {
    const role = ROLE_NAMES[sites.role[site]] ?? "unknown";
    say("tip-class", look?.name ?? words.noClass);
    byId("tip-class").style.color = look?.colour ?? "";
    say("tip-role", role);
    say("tip-confidence", look ? percent(sites.confidence[site]) : "–");
    say("tip-track", sites.track[site] >= 0 ? String(sites.track[site]) : words.noTrack);
    const [row, column] = [sites.row(site), sites.column(site)];
    say("tip-nm", nm ? places.nm(column * nm, row * nm) : places.noSize);
    say("tip-px", places.px(row, column));
    this.box.hidden = false;
    const { offsetWidth: wide, offsetHeight: tall } = this.box;
    const side = x + gap + wide < width ? x + gap : x - gap - wide;
    // where there is no room beside the site, above or below it: never on it
    const beside = side >= 4;
    const left = beside ? side : Math.min(Math.max(4, x - wide / 2), width - wide - 4);
    const top = beside ? Math.min(Math.max(4, y - tall / 2), height - tall - 4) : y + gap + tall < height ? y + gap : Math.max(4, y - gap - tall);
    this.box.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }
}
