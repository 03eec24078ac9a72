/** Where the frame lies on the screen: pan and zoom as plain arithmetic. The centre of the first pixel is 0, 0. */

const MAX_SCALE = 40;  // screen pixels to one frame pixel

export class Viewport {
  constructor() {
    this.width = 1;
    this.height = 1;
    this.rows = 1;
    this.columns = 1;
    this.scale = 1;
    this.left = 0;
    this.top = 0;
    this.fitted = true;
    // How far what is shown lies from where it lay when the view was locked to the sample [frame px].
    this.shiftRow = 0;
    this.shiftColumn = 0;
  }

  get fitScale() {
    return Math.min(this.width / this.columns, this.height / this.rows);
  }

  /** @param {number} width @param {number} height screen size [CSS px] */
  resize(width, height) {
    if (width === this.width && height === this.height) return;
    const [row, column] = this.toFrame(this.width / 2, this.height / 2);
    this.width = Math.max(1, width);
    this.height = Math.max(1, height);
    if (this.fitted) this.fit();
    else this.centre(row, column);
  }

  /** @param {number} rows @param {number} columns of the frame */
  setFrame(rows, columns) {
    if (rows === this.rows && columns === this.columns) return;
    this.rows = rows;
    this.columns = columns;
    this.fit();
  }

  fit() {
    this.fitted = true;
    this.scale = this.fitScale;
    this.settle();
  }

  /** Zoom about a point of the screen. @param {number} factor @param {number} x @param {number} y */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.min(Math.max(this.scale * factor, this.fitScale), Math.max(MAX_SCALE, this.fitScale));
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.fitted = scale <= this.fitScale * 1.0001;
    this.settle();
  }

  /** @param {number} dx @param {number} dy [CSS px] */
  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.settle();
  }

  /** Bring a position of the frame to the middle. @param {number} row @param {number} column */
  centre(row, column) {
    this.left = this.width / 2 - (column - this.shiftColumn + 0.5) * this.scale;
    this.top = this.height / 2 - (row - this.shiftRow + 0.5) * this.scale;
    this.settle();
  }

  /** A frame smaller than the screen is centred, a larger one leaves no gap. */
  settle() {
    const settled = (offset, size, room) =>
      size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, offset));
    this.left = settled(this.left, this.columns * this.scale, this.width);
    this.top = settled(this.top, this.rows * this.scale, this.height);
  }

  /** Left edge of the frame on the screen, its drift taken off where the view is locked [CSS px]. */
  get x0() {
    return this.left - this.shiftColumn * this.scale;
  }

  get y0() {
    return this.top - this.shiftRow * this.scale;
  }

  /** @param {number} x @param {number} y @returns {[number, number]} row, column */
  toFrame(x, y) {
    return [(y - this.y0) / this.scale - 0.5, (x - this.x0) / this.scale - 0.5];
  }

  /** @param {number} row @param {number} column @returns {[number, number]} x, y */
  toScreen(row, column) {
    return [this.x0 + (column + 0.5) * this.scale, this.y0 + (row + 0.5) * this.scale];
  }

  /**
   * Take the drift off from here on, or stop doing so; what is in the middle stays there.
   * @param {{row: number, column: number} | null} shift [frame px]
   */
  setShift(shift) {
    this.shiftRow = shift?.row ?? 0;
    this.shiftColumn = shift?.column ?? 0;
  }

  /** The middle of what is shown, and how much larger than the whole; null where that is the whole frame. */
  get at() {
    if (this.fitted) return null;
    const [row, column] = this.toFrame(this.width / 2, this.height / 2);
    return { row, column, zoom: this.scale / this.fitScale };
  }

  /** What another viewport of the same size needs to show the same. */
  get place() {
    const { width, height, scale, left, top, fitted } = this;
    return { width, height, scale, left, top, fitted };
  }

  /** @param {{width: number, height: number, scale: number, left: number, top: number, fitted: boolean}} place */
  take({ width, height, scale, left, top, fitted }) {
    this.width = width;
    this.height = height;
    if (fitted) {
      this.fit();
      return;
    }
    this.fitted = false;
    this.scale = scale;
    this.left = left;
    this.top = top;
  }
}
