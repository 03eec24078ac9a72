"""Nearest centroid with priors, online, in units of sigma, with a verdict for what fits no class."""

from __future__ import annotations

from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.special import gammainccinv
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from latticewatch.estimators._table import ClassTable

UNKNOWN = -1


class NearestCentroid(ClassifierMixin, BaseEstimator):
    """Classify by the nearest centroid and the prior, where the noise is whitened.

    Centroids are kept in the space of the features, where a new whitening does not make them stale, and are
    projected when they are used. Learning replaces the arrays and never changes them, so ``copy.copy`` of the
    estimator is a snapshot.

    Parameters
    ----------
    unknown_p : float, default=1e-5
        Probability that a member of a class is called unknown. A row is unknown (-1) where its squared
        distance from every centroid is beyond the χ² quantile that a member of the class exceeds with this
        probability. 0: nothing is unknown, and labels may be of any kind; else they are whole numbers from 0.
    whitener : object with ``transform``, optional
        Affine map to coordinates in which each class scatters with variance one, already fitted: a
        `NoiseWhitening`, or a pipeline of it and an `IncrementalPCA`. If not given, the features are such
        coordinates. `sklearn.base.clone` unfits it, like any parameter, unless it is wrapped in
        `sklearn.frozen.FrozenEstimator`.
    contamination : float, default=0.0
        Share of rows that are of no class. If positive, `predict_proba` has one column more, for unknown.
    spread : float, default=10.0
        How widely those lie about the centroids [sigma].
    prior_half_life : float, optional
        Rows of the stream after which a row counts half in the priors. If not given, priors are those of the
        whole stream.
    centroid_half_life : float, optional
        Rows of a class after which a row counts half in its centroid: slow change is followed, at a pace
        that a rare class keeps too. If not given, a centroid is the mean of all rows of its class.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted.
    centroids_ : ndarray of shape (n_classes, n_features), float64
        In the space of the features.
    centroid_weight_ : ndarray of shape (n_classes,), float64
        Rows that each centroid averages, those of the past faded.
    class_count_ : ndarray of shape (n_classes,), float64
        Rows that count in the priors, those of the past faded.

    Notes
    -----
    Linear discriminant analysis with the noise as the shared covariance (Hastie, Tibshirani and Friedman, The
    Elements of Statistical Learning, eq. 4.10): ``δ_k = ln π_k - d_k² / 2``, with d_k the distance from
    centroid k in sigma and π_k the prior. d_k² of a member of the class follows χ² with as many degrees of
    freedom as there are whitened coordinates. A class of fewer than one row (faded, or none yet) has the prior
    of one row, so that it can come back.

    Rows of no class follow the contaminated normal of Tukey (1960), "A survey of sampling from contaminated
    distributions": with probability `contamination` the scatter about a centroid is `spread` instead of one.
    """

    def __init__(
        self,
        *,
        unknown_p: float = 1e-5,
        whitener: Any = None,
        contamination: float = 0.0,
        spread: float = 10.0,
        prior_half_life: float | None = None,
        centroid_half_life: float | None = None,
    ) -> None:
        self.unknown_p = unknown_p
        self.whitener = whitener
        self.contamination = contamination
        self.spread = spread
        self.prior_half_life = prior_half_life
        self.centroid_half_life = centroid_half_life

    n_features_in_: int
    classes_: NDArray[Any]
    centroids_: NDArray[np.float64]
    centroid_weight_: NDArray[np.float64]
    class_count_: NDArray[np.float64]

    @classmethod
    def from_centroids(
        cls, centroids: ArrayLike, counts: ArrayLike, classes: ArrayLike | None = None, **parameters: Any
    ) -> Self:
        """A classifier that knows its classes already, from discovery or a saved model.

        Parameters
        ----------
        centroids : array-like of shape (n_classes, n_features)
        counts : array-like of shape (n_classes,)
            Rows seen of each class; not negative.
        classes : array-like of shape (n_classes,), optional
            Labels, in any order, all different; 0, 1, … if not given.
        **parameters
            Of the constructor.

        Returns
        -------
        NearestCentroid
            Fitted.

        Raises
        ------
        ValueError
            Lengths that do not fit, values that are not finite, or a label given twice.
        """
        centres = np.array(centroids, np.float64)
        weights = np.array(counts, np.float64)
        labels = np.arange(len(centres)) if classes is None else _signed(np.asarray(classes))
        if centres.ndim != 2 or len(centres) == 0 or not np.isfinite(centres).all():
            raise ValueError(
                f"centroids of shape {centres.shape}; expected (n_classes, n_features), all finite"
            )
        for name, column in (("counts", weights), ("classes", labels)):
            if column.shape != (len(centres),):
                raise ValueError(
                    f"{name} of shape {column.shape}; expected one for each of {len(centres)} centroids"
                )
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(f"counts are {weights.tolist()}; they cannot be negative or infinite")
        if len(np.unique(labels)) < len(labels):
            raise ValueError(f"classes are {labels.tolist()}; give each label once")
        classifier = cls(**parameters)
        order = np.argsort(labels)
        classifier._check_parameters(labels)
        if classifier.unknown_p and UNKNOWN in labels:
            raise ValueError(f"classes are {labels.tolist()}; {UNKNOWN} means unknown, give labels from 0")
        classifier.n_features_in_ = centres.shape[1]
        classifier.classes_ = labels[order]
        classifier.centroids_ = centres[order]
        classifier.centroid_weight_ = weights[order]
        classifier.class_count_ = weights[order].copy()
        return classifier

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Forget everything and learn from one batch.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            In the order of the stream.
        y : array-like of shape (n,)
            Class of each row. Rows labelled -1 are left out, unless `unknown_p` is 0.

        Returns
        -------
        NearestCentroid
            The estimator itself.
        """
        for name in ("classes_", "centroids_", "centroid_weight_", "class_count_"):
            self.__dict__.pop(name, None)
        return self._learn(X, y)

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:  # noqa: ARG002
        """Learn from one more batch, of any size; the model is the same as from one batch.

        Parameters
        ----------
        X, y
            As for `fit`.
        classes : ignored
            Other classifiers of scikit-learn need them; here a class is known once it has occurred.

        Returns
        -------
        NearestCentroid
            The estimator itself.
        """
        return self._learn(X, y)

    def merge(self, a: Any, b: Any) -> Self:
        """Make class b part of class a.

        Parameters
        ----------
        a : label
            The class that stays.
        b : label
            The class that becomes part of it.

        Returns
        -------
        NearestCentroid
            The estimator itself.

        Raises
        ------
        ValueError
            A class that is not known, or the same class twice.
        """
        check_is_fitted(self, "classes_")
        known = self.classes_.tolist()
        if a not in known or b not in known or a == b:
            raise ValueError(f"cannot merge class {b!r} into {a!r}; give two of {known}")
        into, out = known.index(a), known.index(b)
        share = _share(self.centroid_weight_[out], self.centroid_weight_[into])
        centroids = self.centroids_.copy()
        centroids[into] += share * (centroids[out] - centroids[into])
        self.centroids_ = np.delete(centroids, out, axis=0)
        for name in ("centroid_weight_", "class_count_"):
            column = getattr(self, name).copy()
            column[into] += column[out]
            setattr(self, name, np.delete(column, out))
        self.classes_ = np.delete(self.classes_, out)
        return self

    @property
    def priors_(self) -> NDArray[np.float64]:
        """Share of each class in the stream, shape (n_classes,)."""
        check_is_fitted(self, "classes_")
        counts = np.maximum(self.class_count_, 1.0)
        return counts / counts.sum()

    @property
    def limit_(self) -> float:
        """Squared distance beyond which a class is out of question [sigma²]; infinite if nothing is unknown."""
        check_is_fitted(self, "classes_")
        return self._limit(self._whiten(self.centroids_[:1]).shape[1])

    def squared_distances(self, X: ArrayLike) -> NDArray[np.float64]:
        """Squared distances from the centroids.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            [sigma²]
        """
        return self._distances(X)[0]

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Discriminants ``ln π_k - d_k² / 2``.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            For two classes, as everywhere in scikit-learn, of shape (n,): that of the second less that of the
            first.
        """
        scores: NDArray[np.float64] = np.log(self.priors_) - self._distances(X)[0] / 2
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Class of each row: the most probable of those whose χ² limit it keeps, -1 where there is none.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,), dtype of `classes_`
        """
        squared, limit = self._distances(X)
        scores = np.where(squared <= limit, np.log(self.priors_) - squared / 2, -np.inf)
        best = scores.argmax(axis=1)
        labels = self.classes_[best]
        if np.isfinite(limit):
            labels[scores[np.arange(len(best)), best] == -np.inf] = UNKNOWN
        return labels

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Posterior probability of each class, and of none where `contamination` is positive.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes) or (n, n_classes + 1), float64
            Rows sum to one. The last column, if there is one more, is unknown.
        """
        rows = np.asarray(self._whiten(self._checked(X)), np.float64)
        centroids, k = np.asarray(self._whiten(self.centroids_), np.float64), len(self.classes_)
        if not self.contamination:
            return ClassTable.of(centroids, self.priors_).posteriors(rows)
        # those of no class are scattered more widely about the same centroids
        near = ClassTable.of(centroids, (1 - self.contamination) * self.priors_)
        wide = ClassTable.of(centroids, self.contamination * self.priors_, self.spread)
        into = np.append(np.arange(k), np.full(k, k))
        return near.joined(wide).posteriors(rows, into=into, width=k + 1)

    def _learn(self, X: ArrayLike, y: ArrayLike) -> Self:
        first = not hasattr(self, "classes_")
        checked: Any = validate_data(
            self, cast("Any", X), cast("Any", y), dtype=[np.float64, np.float32], reset=first
        )
        rows, labels = checked
        check_classification_targets(labels)
        self._check_parameters(labels)
        if self.unknown_p:
            labels = _signed(labels)
            members = labels != UNKNOWN
            rows, labels = rows[members], labels[members]
        present, index = np.unique(labels, return_inverse=True)
        self._extend(present, rows.shape[1], first=first)
        at = np.searchsorted(self.classes_, present)[index]
        ages = np.arange(len(rows))[::-1]
        counts = self.class_count_ * _faded(len(rows), self.prior_half_life)
        self.class_count_ = counts + np.bincount(
            at, weights=_faded(ages, self.prior_half_life), minlength=len(self.classes_)
        )
        centroids, weights = self.centroids_.copy(), self.centroid_weight_.copy()
        for k in np.unique(at):
            batch = rows[at == k].astype(np.float64, copy=False)
            fresh = _faded(np.arange(len(batch))[::-1], self.centroid_half_life)
            weights[k] *= _faded(len(batch), self.centroid_half_life)
            share = _share(fresh.sum(), weights[k])
            centroids[k] += share * (fresh @ batch / fresh.sum() - centroids[k])
            weights[k] += fresh.sum()
        self.centroids_, self.centroid_weight_ = centroids, weights
        return self

    def _extend(self, present: NDArray[Any], n_features: int, *, first: bool) -> None:
        """Make room for classes that have not occurred before."""
        if first:
            self.classes_ = present[:0]
            self.centroids_ = np.zeros((0, n_features))
            self.centroid_weight_ = np.zeros(0)
            self.class_count_ = np.zeros(0)
        new = np.setdiff1d(present, self.classes_)
        classes = np.concatenate([self.classes_, new])
        order = np.argsort(classes)
        self.classes_ = classes[order]
        self.centroids_ = np.concatenate([self.centroids_, np.zeros((len(new), n_features))])[order]
        self.centroid_weight_ = np.concatenate([self.centroid_weight_, np.zeros(len(new))])[order]
        self.class_count_ = np.concatenate([self.class_count_, np.zeros(len(new))])[order]

    def _checked(self, X: ArrayLike) -> Any:
        check_is_fitted(self, "classes_")
        if not len(self.classes_):
            raise ValueError("no class is known: all rows so far were labelled -1; give rows of some class")
        return validate_data(self, cast("Any", X), dtype=[np.float64, np.float32], reset=False)

    def _distances(self, X: ArrayLike) -> tuple[NDArray[np.float64], float]:
        rows = self._checked(X)
        centroids = self._whiten(self.centroids_)
        squared: Any = cdist(self._whiten(rows), centroids, "sqeuclidean")
        return squared, self._limit(centroids.shape[1])

    def _whiten(self, rows: NDArray[Any]) -> NDArray[Any]:
        return rows if self.whitener is None else self.whitener.transform(rows)

    def _limit(self, n_coordinates: int) -> float:
        # χ² with no degree of freedom has no quantile: without a coordinate nothing is far from anything.
        if not (self.unknown_p and n_coordinates):
            return np.inf
        # the quantile of χ²; scipy.stats would have to be imported for it
        return 2 * float(gammainccinv(n_coordinates / 2, self.unknown_p))

    def _check_parameters(self, labels: NDArray[Any]) -> None:
        for name, value in (("unknown_p", self.unknown_p), ("contamination", self.contamination)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value!r}; give a probability from 0, below 1")
        if not self.spread > 1:
            raise ValueError(f"spread is {self.spread!r}; give a number of sigma above 1")
        for name in ("prior_half_life", "centroid_half_life"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value!r}; give a positive number of rows, or None")
        whole = labels.dtype.kind in "iu" or (labels.dtype.kind == "f" and bool((labels % 1 == 0).all()))
        if self.unknown_p and not (whole and (labels >= UNKNOWN).all()):
            raise ValueError(
                f"labels of type {labels.dtype}; with unknown_p > 0 give whole numbers from 0 (-1 is unknown), "
                "or set unknown_p=0"
            )


def _signed(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels of a type that can say -1."""
    return labels.astype(np.int64) if labels.dtype.kind == "u" else labels


def _share(fresh: Any, old: Any) -> float:
    """How far a centroid moves towards rows of weight `fresh`; half-way if neither has any weight."""
    return float(fresh / (fresh + old)) if fresh + old > 0 else 0.5


def _faded(age: Any, half_life: float | None) -> Any:
    """What is left of a row after some more rows."""
    return np.exp2(-np.asarray(age, np.float64) / (half_life or np.inf))
