"""The slow, obvious version of every kernel: what the tests compare with."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize

# --- Zernike moments ---------------------------------------------------------------------------------------


def zernike_polynomial(n, m, x, y):
    """Real Zernike polynomial at one point, zero outside the unit disk."""
    rho, theta = math.sqrt(x * x + y * y), math.atan2(y, x)
    if rho > 1:
        return 0.0
    a = abs(m)
    radial = sum(
        (-1) ** k
        * math.factorial(n - k)
        / (math.factorial(k) * math.factorial((n + a) // 2 - k) * math.factorial((n - a) // 2 - k))
        * rho ** (n - 2 * k)
        for k in range((n - a) // 2 + 1)
    )
    angular = math.sin(a * theta) if m < 0 else math.cos(a * theta)
    return math.sqrt(2 * (n + 1) / (1 + (m == 0))) * radial * angular


def bilinear_patch(image, row, col, size):
    """Patch around a position, the image interpolated between pixels and its edge repeated outside."""
    height, width = image.shape

    def pixel(r, c):
        return float(image[min(max(r, 0), height - 1), min(max(c, 0), width - 1)])

    patch = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            r, c = row - size // 2 + i, col - size // 2 + j
            r0, c0 = math.floor(r), math.floor(c)
            down, right = r - r0, c - c0
            patch[i, j] = (
                (1 - down) * (1 - right) * pixel(r0, c0)
                + (1 - down) * right * pixel(r0, c0 + 1)
                + down * (1 - right) * pixel(r0 + 1, c0)
                + down * right * pixel(r0 + 1, c0 + 1)
            )
    return patch


def zernike_moments_around(image, positions, n_max, size):
    """Moments of the patches around positions, one pixel and one polynomial after the other."""
    grid = np.linspace(-1, 1, size)
    orders = [(n, m) for n in range(n_max + 1) for m in range(-n, n + 1, 2)]
    moments = np.zeros((len(positions), len(orders)))
    for site, (row, col) in enumerate(positions):
        patch = bilinear_patch(image, row, col, size)
        for k, (n, m) in enumerate(orders):
            moments[site, k] = sum(
                patch[i, j] * zernike_polynomial(n, m, grid[j], grid[i])
                for i in range(size)
                for j in range(size)
            ) / (math.pi * size**2 / 4)
    return moments


# --- Learning ----------------------------------------------------------------------------------------------


def weighted_covariance(rows, weights):
    """Mean and covariance, a row of weight 2 counting as two rows."""
    total = sum(weights)
    mean = sum(w * row for w, row in zip(weights, rows, strict=True)) / total
    scatter = sum(w * np.outer(row - mean, row - mean) for w, row in zip(weights, rows, strict=True))
    return mean, scatter / (total - 1)


def layout_force(positions, weights, gravity, softening):
    """Force on each node of a layout: linear attraction along edges, repulsion 1/d between all, gravity."""
    forces = np.zeros((len(positions), 2))
    for i, p in enumerate(positions):
        for j, q in enumerate(positions):
            away = np.subtract(p, q, dtype=float)
            forces[i] -= weights[i][j] * away
            forces[i] += away / (away @ away + softening)
        forces[i] -= gravity * p
    return forces


def nearest_centroid_posterior(row, centroids, priors, contamination, spread):
    """Posterior of each class and of none, from densities of Gaussians written out."""
    d = len(row)

    def density(centroid, sigma):
        distance = math.dist(row, centroid)
        return math.exp(-(distance**2) / (2 * sigma**2)) / (2 * math.pi * sigma**2) ** (d / 2)

    joint = [(1 - contamination) * p * density(c, 1) for c, p in zip(centroids, priors, strict=True)]
    joint.append(contamination * sum(p * density(c, spread) for c, p in zip(centroids, priors, strict=True)))
    return np.array(joint) / sum(joint)


def faded_model(rows, labels, prior_half_life, centroid_half_life):
    """Centroid and faded count of each class, one row after the other."""
    centroids, weights, counts = {}, {}, {}
    for row, label in zip(rows, labels, strict=True):
        counts = {k: count * 0.5 ** (1 / prior_half_life) for k, count in counts.items()}
        counts[label] = counts.get(label, 0.0) + 1
        old = weights.get(label, 0.0) * 0.5 ** (1 / centroid_half_life)
        centroids[label] = (old * centroids.get(label, np.zeros(len(row))) + row) / (old + 1)
        weights[label] = old + 1
    return centroids, counts


# --- Lattice -----------------------------------------------------------------------------------------------


def interpolated(grid, row, col):
    """Bilinear value of a grid at fractional indices; beyond the grid, the value at its edge."""
    row, col = min(max(row, 0), len(grid) - 1), min(max(col, 0), len(grid[0]) - 1)
    return sum(
        max(0.0, 1 - abs(row - i)) * max(0.0, 1 - abs(col - j)) * grid[i][j]
        for i in range(len(grid))
        for j in range(len(grid[0]))
    )


def unwrapped(phase, quality, seed):
    """Phases freed of jumps: always the best node beside those done, turned to the mean of those around it."""
    n_rows, n_cols = quality.shape
    out, done, waiting = np.array(phase), set(), {seed}
    while waiting:
        node = min(waiting, key=lambda ij: (-quality[ij], ij))
        i, j = node
        around = [(i + di, j + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1) if (i + di, j + dj) in done]
        for d in range(len(out)):
            if around:
                mean = sum(out[d][a] for a in around) / len(around)
                out[d][node] += 2 * math.pi * round((mean - out[d][node]) / (2 * math.pi))
        done.add(node)
        beside = [(i, j + 1), (i + 1, j), (i, j - 1), (i - 1, j)]
        waiting |= {(a, b) for a, b in beside if 0 <= a < n_rows and 0 <= b < n_cols}
        waiting -= done
    return out


def cell_coordinate(point, basis, phase, origin, step):
    """Cell coordinate of one point: plane wave and local phase."""
    at = [(x - origin) / step for x in point]
    return np.array([basis[d] @ point + interpolated(phase[:, :, d], *at) / (2 * math.pi) for d in range(2)])


def point_of_cell_coordinate(coordinate, basis, phase, origin, step):
    """The point with a cell coordinate, by a general root finder."""
    start = np.linalg.solve(basis, coordinate)
    found = optimize.root(
        lambda point: cell_coordinate(point, basis, phase, origin, step) - coordinate, start
    )
    return found.x


def folded(image, flat, basis, phase, origin, step, amplitude, least, n1, n2):
    """Sums of I, F, F² and 1 over pixels with enough amplitude, each shared between four nodes of a cell."""
    sums = np.zeros((4, n1, n2))
    for point in np.ndindex(image.shape):
        if interpolated(amplitude, *((x - origin) / step for x in point)) <= least:
            continue
        u, v = cell_coordinate(np.array(point), basis, phase, origin, step) % 1 * (n1, n2)
        for a in (math.floor(u), math.floor(u) + 1):
            for b in (math.floor(v), math.floor(v) + 1):
                share = (1 - abs(u - a)) * (1 - abs(v - b))
                value, other = float(image[point]), float(flat[point])
                sums[:, a % n1, b % n2] += share * np.array([value, other, other**2, 1.0])
    return sums


def unfolded(cell, basis, phase, origin, step, shape):
    """The value of a periodic cell at the cell coordinate of every pixel."""
    out = np.empty(shape)
    periodic = np.pad(cell, ((0, 1), (0, 1)), mode="wrap")
    for point in np.ndindex(*shape):
        at = cell_coordinate(np.array(point), basis, phase, origin, step) % 1 * cell.shape
        out[point] = interpolated(periodic, *at)
    return out


def demodulated(image, window_rows, window_cols, frequencies):
    """Windowed sums of the pixels times each wave; windows (n, height) and (m, width)."""
    out = np.zeros((len(frequencies), len(window_rows), len(window_cols)), complex)
    for k, (down, across) in enumerate(frequencies):
        for r, c in np.ndindex(image.shape):
            turned = float(image[r, c]) * np.exp(-2j * np.pi * (down * r + across * c))
            out[k] += turned * np.outer(window_rows[:, r], window_cols[:, c])
    return out


def agreed_phases(waves, orders, good):
    """Change of the phases of the two basis waves that fits all harmonics best, and the best coherence."""
    first, second = np.angle(waves[0]), np.angle(waves[1])
    best, kept = 0.0, []
    for k, (order, wave) in enumerate(zip(orders, waves, strict=True)):
        turned = wave * np.exp(-1j * (order[0] * first + order[1] * second))
        coherence = abs(turned[good].sum()) / abs(turned[good]).sum()
        best = max(best, coherence) if k >= 2 else best
        if coherence >= 0.5:
            kept.append((order, abs(wave), np.angle(turned * np.conj(turned[good].sum()))))
    change = np.zeros((*good.shape, 2))
    for node in np.ndindex(good.shape):
        design = np.array([size[node] * np.array(order) for order, size, _ in kept])
        target = np.array([size[node] * miss[node] for _, size, miss in kept])
        change[node] = np.linalg.lstsq(design, target, rcond=None)[0]
    return change, best


def mean_of_blocks(image, block):
    """Mean over every whole block."""
    n_rows, n_cols = (n // block for n in image.shape)
    return np.array(
        [
            [
                image[i * block : (i + 1) * block, j * block : (j + 1) * block].mean(dtype=float)
                for j in range(n_cols)
            ]
            for i in range(n_rows)
        ]
    ).reshape(n_rows, n_cols)


def plane_through(values, weight):
    """Weighted least-squares plane through the nodes of a grid."""
    rows, cols = np.indices(values.shape)
    design = np.stack([np.ones(values.size), rows.ravel(), cols.ravel()], 1)
    root = np.sqrt(weight.ravel())
    fit = np.linalg.lstsq(design * root[:, None], values.ravel() * root, rcond=None)[0]
    return (design @ fit).reshape(values.shape)


def block_sums(image, perfect, offset, gain, limit, block):
    """Sums of 1, I, P, IP and P² over the pixels of each block that lie within a limit of gain P + offset."""
    shape = [-(-n // block) for n in image.shape]
    sums = np.zeros((5, *shape))
    for r, c in np.ndindex(image.shape):
        a, b = r // block, c // block
        i, p = float(image[r, c]), float(perfect[r, c])
        if math.isinf(limit) or abs(i - offset[a, b] - gain * p) <= limit:
            sums[:, a, b] += [1, i, p, i * p, p * p]
    return sums


def without_offset(image, offset, block, factor):
    """Image less an offset that is known at the centres of blocks, times a factor."""
    return np.array(
        [
            [
                (image[r, c] - interpolated(offset, (r + 0.5) / block - 0.5, (c + 0.5) / block - 0.5))
                * factor
                for c in range(image.shape[1])
            ]
            for r in range(image.shape[0])
        ]
    )


# --- Discovery ---------------------------------------------------------------------------------------------


def neighbours_of(sublattice, cell, tables):
    """Index of the site in each neighbouring cell; -1 where there is none."""
    where = {(s, *c): i for i, (s, c) in enumerate(zip(sublattice, cell.tolist(), strict=True)) if s >= 0}
    index = np.full((len(cell), max(len(table) for table in tables)), -1)
    for i, (s, (a, b)) in enumerate(zip(sublattice, cell.tolist(), strict=True)):
        for k, (other, da, db) in enumerate(tables[s].tolist() if s >= 0 else []):
            index[i, k] = where.get((other, a + da, b + db), -1)
    return index


def moments_alone(moments, amplitude, rows, index, templates):
    """Moments less those of the changes next door."""
    out = []
    for i in rows:
        row = moments[i].astype(float)
        for neighbour, template in zip(index[i], templates[1:], strict=False):
            if neighbour >= 0:
                row = row - amplitude[neighbour] * template
        out.append(row)
    return np.array(out)


def weighted_densities(values, mean, deviation, weight, background, span, tail_share=0.05, tail_width=2.0):
    """Density of each class, those beside the host with a tail, and of the background."""

    def normal(value, centre, width):
        return math.exp(-(((value - centre) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))

    out = []
    for value in values:
        row = [weight[0] * normal(value, mean[0], deviation[0])]
        for m, d, w in zip(mean[1:], deviation[1:], weight[1:], strict=True):
            tail = normal(value, m, tail_width * d)
            row.append(w * ((1 - tail_share) * normal(value, m, d) + tail_share * tail))
        out.append([*row, background / span])
    return np.array(out)


def shared_among_neighbours(posterior, rows, index, host, beside):
    """The host's part shared between host and neighbour classes by the chance of a defect in each direction."""
    out = posterior.copy()
    for i in rows:
        chance = [posterior[index[i, d], defect] if index[i, d] >= 0 else 0.0 for d, defect, _ in beside]
        alone = math.prod(1 - p for p in chance)
        out[i, host] = posterior[i, host] * alone
        for p, (_, _, target) in zip(chance, beside, strict=True):
            out[i, target] += posterior[i, host] * (1 - alone) * p / max(sum(chance), 1e-12)
    return out


def binned(values, position, known, centre, width, side, clip):
    """Number, sum and sum of squares of the values around each node, outliers left out."""
    sums = np.zeros((3, *centre.shape))
    for value, place, counts in zip(values, position / side, known, strict=True):
        if not counts or abs(value - interpolated(centre, *place)) > clip * interpolated(width, *place):
            continue
        node = tuple(min(math.floor(x + 0.5), n - 1) for x, n in zip(place, centre.shape, strict=True))
        sums[(slice(None), *node)] += [1, value, value**2]
    return sums


def levelled(values, position, centre, width, side):
    """Values less the local level, in units of the local width."""
    return np.array(
        [
            (value - interpolated(centre, *place)) / interpolated(width, *place)
            for value, place in zip(values, position / side, strict=True)
        ]
    )


def smoothed(grid, sigma):
    """Sum over a Gaussian of weight one, cut at four sigma; nothing beyond the grid."""
    reach = int(4 * sigma + 0.5)
    weight = {d: math.exp(-(d**2) / (2 * sigma**2)) for d in range(-reach, reach + 1)}
    total = sum(weight.values())
    out = np.zeros(np.shape(grid))
    for i, j in np.ndindex(out.shape):
        for a, b in np.ndindex(out.shape):
            if abs(a - i) <= reach and abs(b - j) <= reach:
                out[i, j] += weight[a - i] * weight[b - j] / total**2 * grid[a][b]
    return out


def standardised(values, position, host, shape, together=120, clip=2.5, kept=0.9113):
    """Values less the local mean of the hosts, in units of their local spread, both of them found twice over."""
    known = host if sum(host) >= 8 else np.ones(len(values), bool)
    level = np.median(values[known])
    spread = 1.4826 * np.median(np.abs(values[known] - level)) or 1.0
    scaled = (values - level) / spread
    side = math.sqrt(shape[0] * shape[1] / sum(known) * together / 10)
    grid = (int(shape[0] / side) + 2, int(shape[1] / side) + 2)
    centre, width = np.zeros(grid), np.ones(grid)
    for _ in range(2):
        sums = binned(scaled, position, known, centre, width, side, clip)
        near = math.sqrt(10 / (4 * math.pi))
        n, first = smoothed(sums[0], near), smoothed(sums[1], near)
        prior = 10 / together * n.max()
        centre = first / (n + prior)
        # the spread is that of twice as many sites
        scatter = smoothed(sums[2] - 2 * centre * sums[1] + centre**2 * sums[0], 1.5 * near)
        n = smoothed(sums[0], 1.5 * near)
        width = np.sqrt(np.maximum((scatter + prior * kept) / (n + prior) / kept, 0.05))
    out = levelled(scaled, position, centre, width, side)
    # bilinear interpolation averages noise, most of it half-way between pixels
    fraction = position % 1
    blur = (fraction * (1 - fraction)).sum(1) - 1 / 3
    inner = known & (np.abs(out) <= clip)
    x, y = blur[inner], out[inner] ** 2
    if sum(inner) < 30 or x.var() < 1e-9:
        return out
    slope = np.cov(x, y, bias=True)[0, 1] / x.var()
    certain = abs(slope) > 3 * y.std() / math.sqrt(len(x) * x.var())
    return out / np.sqrt(np.maximum(1 + (slope / y.mean() if certain else 0.0) * blur, 0.3))


def class_posteriors(row, centroids, spreads, reaches, priors):
    """Posterior of each class, its members normal about its centroid, from densities written out.

    Of the axes where its centroid is not a number, a class says nothing: there its density is the mean of the others'.
    """

    def depth(c):
        return sum(not math.isnan(value) for value in centroids[c])

    def density(c, first):
        out = 1.0 / reaches[c]
        for f in range(first, depth(c)):
            if not math.isinf(spreads[c][f]) and not math.isnan(row[f]):
                apart = (row[f] - centroids[c][f]) / spreads[c][f]
                out *= math.exp(-(apart**2) / 2) / (spreads[c][f] * math.sqrt(2 * math.pi))
        deeper = [other for other in range(len(priors)) if depth(other) > depth(c)]
        if deeper:
            seen = sum(priors[other] * density(other, depth(c)) for other in deeper)
            out *= seen / sum(priors[other] for other in deeper)
        return out

    joint = np.array([priors[c] * density(c, 0) for c in range(len(priors))])
    return joint / joint.sum()


def without_blur(moments, position, sublattice, slopes):
    """Moments less what the blur of interpolation adds to them beyond its mean."""
    out = np.array(moments, float)
    for i, s in enumerate(sublattice):
        if s >= 0:
            fraction = position[i] - np.floor(position[i])
            out[i] -= (fraction * (1 - fraction) - 1 / 6) @ slopes[s]
    return out


def shared_sums(posterior, rows, score, component, columns, merged):
    """Sums of 1, score and its square over sites, by the probability of each component; the host has what is left."""
    share = np.zeros((len(rows), len(columns)))
    for i, row in enumerate(rows):
        for k in range(1, len(columns)):
            if not merged[k] or component[i] == k:
                share[i, k] = posterior[row, columns[k]]
        share[i, 0] = max(1 - posterior[row, -1] - share[i].sum(), 0)
    return np.stack([share.sum(0), score @ share, score**2 @ share])


def likelihood_of_states(posterior, state, log_prior):
    """Log-likelihood of each state of one site, from the posteriors of its classes; None where they say nothing."""
    if not posterior.sum() > 0:
        return None
    mass = np.array([posterior[state == s].sum() for s in range(len(log_prior))])
    value = np.where(log_prior > -np.inf, np.log(np.maximum(mass, 1e-30)) - log_prior, -np.inf)
    return np.maximum(value - value.max(), -60.0)


def priors_followed(totals, given, unknown, gain=0.2):
    """Priors of the classes of one sublattice after some frames, from the sums of the posteriors of each of them."""

    def floored(weight):
        weight = weight / weight.sum()
        weight = np.where(possible, np.maximum(weight, np.where(unknown, 1e-3, 1e-6)), 0.0)
        return weight / weight.sum()

    frequency = np.zeros(len(given))
    possible = np.zeros(len(given), bool)
    for total in totals:
        possible |= total > 0
        seen = floored(total)
        frequency = np.where((frequency > 0) == (seen > 0), (1 - gain) * frequency + gain * seen, seen)
    known = np.where(possible & ~unknown, given, 0.0)
    known *= (1 - frequency[unknown].sum()) / max(known.sum(), 1e-30)
    return floored(np.where(unknown, frequency, known))


def shared_to_classes(belief, alone, posterior, prior, state, gain=0.2, least=1e-6):
    """Probability of each class of one site: that of its state, shared as lately, or else by the prior."""
    out = np.zeros(len(state))
    for s, whole in enumerate(belief):
        mine = (state == s) & (prior > 0)
        before, now = posterior[mine].sum(), alone[mine].sum()
        if before > 0:
            share = posterior[mine] / before
            share = share + gain * (alone[mine] / now - share) if now > least else share
        elif now > least:
            share = alone[mine] / now
        else:
            share = prior[mine] / prior[mine].sum() if mine.any() else 0.0
        out[mine] = whole * share
    return out


class SiteEvidence:
    """What the frames of one site say, all its states being possible and nothing repeating from frame to frame.

    The frames themselves are kept: those of the run, and the last few that speak for a change.
    """

    def __init__(self, log_prior, change):
        self.log_prior, self.change = np.asarray(log_prior), change
        self.base, self.run, self.recent = self.log_prior.copy(), [], []
        self.excess = np.zeros(len(self.base))

    def __call__(self, value):
        """Probability of each state after a frame with these log-likelihoods."""
        if not self.run:
            self.run = [value]
            return _probability(self.base + value)
        own, frames = int((self.base + np.sum(self.run, axis=0)).argmax()), len(self.run)
        gained = np.maximum(self.excess + value - value[own], 0.0)
        if not gained.any():
            self.run, self.recent, self.excess = [*self.run, *self.recent, value], [], gained
            return _probability(self.base + np.sum(self.run, axis=0))
        if self.excess[gained.argmax()] == 0:
            self.run, self.recent = self.run + self.recent, []
        self.recent, self.excess = [*self.recent, value], gained
        # of the frames that have just come to the run, only the mean is taken here
        stayed = _probability(self.base + frames * np.mean(self.run, axis=0)) @ np.exp(gained)
        others = np.arange(len(value)) != own
        odds = (self.change / stayed * np.exp(self.log_prior + gained))[others].sum()
        later = np.where(others, self.log_prior + np.sum(self.recent, axis=0), -np.inf)
        changed = odds / (1 + odds)
        if changed > 0.999:
            self.run, self.recent = self.recent, []
            self.base, self.excess = self.log_prior.copy(), np.zeros(len(value))
            whole = self.base + np.sum(self.run, axis=0)
            best = int(later.argmax())
            self.base[best] += max(0.0, 7.0 - (whole[best] - np.delete(whole, best).max()))
            return _probability(later)
        mixed = _probability(self.base + np.sum(self.run + self.recent, axis=0))
        if changed < 0.5 and mixed.argmax() != own:
            self.run, self.recent, self.excess = self.run + self.recent, [], np.zeros(len(value))
        return (1 - changed) * mixed + changed * _probability(later)


def _probability(log):
    probability = np.where(log - log.max() > -16.0, np.exp(log - log.max()), 0.0)
    return probability / probability.sum()


def doubt(amplitude, rows, index, each):
    """Standard deviation of scores, that of noise being 1, for what is not known of the changes around."""
    out = []
    for i in rows:
        known = [(amplitude[j] * e) ** 2 for j, e in zip(index[i], each[1:], strict=False) if j >= 0]
        out.append(np.sqrt(1 + sum(known)))
    return np.array(out)


def look(image, above, below, block):
    """Equal neighbours of each block, pixels that stand out of their neighbours, sums of rows and columns."""
    height, width = image.shape
    equal = np.zeros((height // block, width // block))
    places = []
    for r in range(height - 1):
        for c in range(width - 1):
            if r // block < len(equal) and c // block < equal.shape[1]:
                equal[r // block, c // block] += (
                    image[r, c] == image[r, c + 1] and image[r, c] == image[r + 1, c]
                )
            if r > 0 and c > 0:
                near = np.sort([image[r - 1, c], image[r + 1, c], image[r, c - 1], image[r, c + 1]])
                if image[r, c] - near[2] > above or near[1] - image[r, c] > below:
                    places.append((r, c))
    return equal, np.array(places).reshape(-1, 2), image.sum(1), image.sum(0)


# --- displaced columns, and atoms between the columns -------------------------------------------------------


def powers(shift, farthest, order):
    """Products of the two parts of a displacement, order by order."""
    a, b = np.asarray(shift) / farthest
    return np.array([a**i * b ** (n - i) for n in range(1, order + 1) for i in range(n, -1, -1)])


def light_around(index, rows, n_columns, shift, extra, away, moments, moved, reaches, order):
    """What displaced columns, and atoms between the columns, add to each of some patches."""
    out = np.zeros((len(rows), moments.shape[1]))
    for m, i in enumerate(rows):
        for q in range(len(moments) - 1):
            j = index[i, q]
            if j < 0:
                continue
            if q < n_columns:
                out[m] += powers(shift[j], reaches[0], order) @ moved[q + 1]
            else:
                out[m] += extra[j] * (moments[q + 1] + powers(away[j], reaches[1], order) @ moved[q + 1])
    return out


def rival_around(patch, seen, moved, heights, terms, variance, as_good, rarer):
    """Most that one neighbour of a place explains of a patch, displaced and of another height, and what it costs to
    say so; seen, moved, heights are those of the neighbours, whitened, and terms the products of each displacement.
    """
    most = -np.inf
    for q, height in enumerate(heights):
        for term in terms:
            away = term @ moved[q]
            start = away if height > 0 else 0 * away
            direction = seen[q] + away / (height if height > 0 else 1.0)
            more = (patch - start) @ direction / (direction @ direction)
            if height == 0:
                more = max(more, 0.0)
            explained = (patch @ patch - np.sum((patch - start - more * direction) ** 2)) / variance
            most = max(most, explained + rarer if height > 0 else (1 - as_good) * explained)
    return most


def light_at(image, places, width):
    """Mean intensity around each place, weighted by a Gaussian that is cut at two widths along rows and columns."""
    out = []
    for place in places:
        weights = []
        for axis in range(2):
            away = np.arange(image.shape[axis]) - place[axis]
            weights.append(np.where(np.abs(away) <= 2 * width, np.exp(-0.5 * (away / width) ** 2), 0.0))
        out.append(weights[0] @ image @ weights[1] / (weights[0].sum() * weights[1].sum()))
    return np.array(out)


def settled_shifts(readings, filters, gates, limits):
    """Displacements: the strongest first, what it does to others taken off them; those that strain explains last.

    limits: (sigma, share, echo, strain), see `HEIGHT_SIGMA`, `SHARE`, `ECHO_ERROR` and `STRAIN_SHARE`.
    """
    sigma, share, echo_share, strain = limits
    left, score, n = readings.z.copy(), readings.score.copy(), len(readings.z)
    square = ((readings.z / readings.scale) ** 2).sum(1)
    echo, shift = np.zeros(n), np.zeros((n, 2))
    gate = [gates[s] for s in readings.sublattice]
    for i in sorted((i for i in range(n) if square[i] > gate[i]), key=lambda i: -square[i]):
        length = np.linalg.norm(left[i] / readings.scale[i])
        if length**2 <= gate[i] * (1 + (echo_share * echo[i]) ** 2):
            continue
        own = filters[readings.sublattice[i]]
        moved = own.shift(left[i][None])
        dip = own.height_of(moved)[0]
        if abs(score[i] - dip) > max(sigma, share * abs(dip), share * length):
            continue
        shift[i] = moved[0]
        for j in readings.index[i]:
            for q in np.flatnonzero(readings.index[j] == i) if j >= 0 else []:
                other = filters[readings.sublattice[j]]
                heard = other.of(moved, q + 1)[0]
                left[j] -= heard
                echo[j] += np.linalg.norm(heard)
                score[j] -= other.height_of(moved, q + 1)[0]
    for i in np.flatnonzero(shift.any(1)):
        around = [
            shift[j] if shift[j].any() else left[j] @ filters[readings.sublattice[j]].px_of_sigma
            for j in readings.index[i]
            if j >= 0
        ]
        along = np.mean(around, 0) @ shift[i] if around else 0.0
        if along > strain * (shift[i] @ shift[i]):
            shift[i] = 0.0
    return shift


# --- mixtures ----------------------------------------------------------------------------------------------


def maximised(value, count, start, least, narrowest, iterations, share, most_share, strength):
    """Expectation maximisation of a host and classes that keep their distance from it; the background its weight."""
    mean, deviation, weight = start.mean.copy(), start.deviation.copy(), start.weight.copy()
    side = np.sign(mean - mean[0])
    for _ in range(iterations):
        current = type(start)(mean.copy(), deviation, weight, start.background, start.span)
        shared = current.posteriors(value)[:, :-1] * count[:, None]
        number = shared.sum(0) + 1e-12
        moved = value @ shared / number
        change, mean = np.abs(moved - mean).max(), moved
        square = (shared * (value[:, None] - mean) ** 2).sum(0)
        width = max(np.sqrt(square[0] / number[0]), narrowest)
        near = np.abs(mean - mean[0]) < least * width
        near[0] = False
        mean[near] = mean[0] + side[near] * least * width
        distance = np.abs(mean - mean[0])
        expected = width**2 + (share * distance) ** 2
        own = np.sqrt((square + strength * expected) / (number + strength))
        deviation = np.clip(own, width, np.hypot(width, most_share * distance))
        deviation[0] = width
        weight = number / number.sum() * (1 - start.background)
        if change < 1e-4 * width:
            break
    return mean, deviation, weight
