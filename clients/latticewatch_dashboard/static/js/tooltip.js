// @ts-check
/** What is known of one site: class, confidence, track, position. */

import { byId, setText } from "./dom.js";
import { fixed, percent } from "./format.js";
import { ROLE_NAMES } from "./live/sites.js";
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
    setText(byId("tip-class"), look?.name ?? "no class");
    byId("tip-class").style.color = look?.colour ?? "";
    setText(byId("tip-role"), role);
    setText(byId("tip-confidence"), look ? percent(sites.confidence[site]) : "–");
    setText(byId("tip-track"), sites.track[site] >= 0 ? String(sites.track[site]) : "none yet");
    const [row, column] = [sites.row(site), sites.column(site)];
    setText(byId("tip-nm"), nm ? `x ${fixed(column * nm, 2)} nm, y ${fixed(row * nm, 2)} nm` : "no pixel size");
    setText(byId("tip-px"), `row ${fixed(row, 1)}, column ${fixed(column, 1)} px`);
    this.box.hidden = false;
    const left = x + gap + this.box.offsetWidth < width ? x + gap : Math.max(4, x - gap - this.box.offsetWidth);
    const top = Math.min(Math.max(4, y - this.box.offsetHeight / 2), height - this.box.offsetHeight - 4);
    this.box.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }
}
