"""The campaigns of Galaxy Zoo: their questions and answers, with the column names of the catalogs."""

from collections.abc import Mapping
from functools import reduce
from operator import add

from sklearn.base import clone

from skastro.votes.schema import VoteSchema

__all__ = ["SCHEMAS", "get_schema"]

# A table per campaign: for each question its answers, then the answers that lead to it, "question=answer".
Table = Mapping[str, tuple[str, ...]]


def _schema(table: Table, suffix: str = "") -> VoteSchema:
    """Build the schema of a campaign, with its suffix on each question."""
    questions = {question + suffix: tuple(answers.split()) for question, (answers, *_) in table.items()}
    dependencies = {}
    for question, (_, *conditions) in table.items():
        if conditions:
            pairs = [condition.split("=") for condition in conditions]
            dependencies[question + suffix] = [(parent + suffix, answer) for parent, answer in pairs]
    return VoteSchema(questions, dependencies)


def _without(table: Table, *questions: str) -> Table:
    return {question: row for question, row in table.items() if question not in questions}


_SMOOTH, _FEATURED = "smooth-or-featured=smooth", "smooth-or-featured=featured-or-disk"
_FEATURES, _CLUMPY = "smooth-or-featured=features", "clumpy-appearance=yes"
_FACE_ON, _EDGE_ON, _SPIRAL = "disk-edge-on=no", "disk-edge-on=yes", "has-spiral-arms=yes"

_GZ2: Table = {
    "smooth-or-featured": ("smooth featured-or-disk artifact",),
    "disk-edge-on": ("yes no", _FEATURED),
    "has-spiral-arms": ("yes no", _FACE_ON),
    "bar": ("yes no", _FACE_ON),
    "bulge-size": ("dominant obvious just-noticeable no", _FACE_ON),
    "something-odd": ("yes no", _SMOOTH, _FEATURED),
    "how-rounded": ("round in-between cigar", _SMOOTH),
    "bulge-shape": ("round boxy no-bulge", _EDGE_ON),
    "spiral-winding": ("tight medium loose", _SPIRAL),
    "spiral-arm-count": ("1 2 3 4 more-than-4 cant-tell", _SPIRAL),
}

_DECALS: Table = {
    "smooth-or-featured": ("smooth featured-or-disk artifact",),
    "disk-edge-on": ("yes no", _FEATURED),
    "has-spiral-arms": ("yes no", _FACE_ON),
    "bar": ("strong weak no", _FACE_ON),
    "bulge-size": ("dominant large moderate small none", _FACE_ON),
    "how-rounded": ("round in-between cigar-shaped", _SMOOTH),
    "edge-on-bulge": ("boxy none rounded", _EDGE_ON),
    "spiral-winding": ("tight medium loose", _SPIRAL),
    "spiral-arm-count": ("1 2 3 4 more-than-4 cant-tell", _SPIRAL),
    "merging": ("none minor-disturbance major-disturbance merger", _SMOOTH, _FEATURED),
}
_DECALS_DR12: Table = {
    **_DECALS,
    "bar": ("yes no", _FACE_ON),
    "bulge-size": ("dominant obvious none", _FACE_ON),
    "how-rounded": ("completely in-between cigar-shaped", _SMOOTH),
    "spiral-arm-count": ("1 2 3 4 more-than-4", _SPIRAL),
    "merging": ("neither tidal-debris both merger", _SMOOTH, _FEATURED),
}

# With the number of clumps, which the paper of 2022 trained on; later tables leave it out.
_HUBBLE: Table = {
    "smooth-or-featured": ("smooth features artifact",),
    "how-rounded": ("completely in-between cigar-shaped", _SMOOTH),
    "clumpy-appearance": ("yes no", _FEATURES),
    "clump-count": ("1 2 3 4 5-plus cant-tell", _CLUMPY),
    "disk-edge-on": ("yes no", "clumpy-appearance=no"),
    "bulge-shape": ("rounded boxy none", _EDGE_ON),
    "bar": ("yes no", _FACE_ON),
    "has-spiral-arms": ("yes no", _FACE_ON),
    "spiral-winding": ("tight medium loose", _SPIRAL),
    "spiral-arm-count": ("1 2 3 4 5-plus cant-tell", _SPIRAL),
    "bulge-size": ("none just-noticeable obvious dominant", _FACE_ON),
    "galaxy-symmetrical": ("yes no", _CLUMPY),
    "clumps-embedded-larger-object": ("yes no", _CLUMPY),
}
_CANDELS: Table = {
    "smooth-or-featured": ("smooth features artifact",),
    "how-rounded": ("completely in-between cigar-shaped", _SMOOTH),
    "clumpy-appearance": ("yes no", _FEATURES),
    "clump-count": ("1 2 3 4 5-plus cant-tell", _CLUMPY),
    "disk-edge-on": ("yes no", "clumpy-appearance=no"),
    "edge-on-bulge": ("yes no", _EDGE_ON),
    "bar": ("yes no", _FACE_ON),
    "has-spiral-arms": ("yes no", _FACE_ON),
    "spiral-winding": ("tight medium loose", _SPIRAL),
    "spiral-arm-count": ("1 2 3 4 5-plus cant-tell", _SPIRAL),
    "bulge-size": ("none obvious dominant", _FACE_ON),
    "merging": ("merger tidal-debris both neither", _SMOOTH, _FEATURES),
}

_HUBBLE_V2: Table = {
    **_without(_HUBBLE, "clumpy-appearance", "clump-count", "galaxy-symmetrical", "clumps-embedded-larger-object"),
    "disk-edge-on": ("yes no", _FEATURES),
}

_COSMIC_DAWN: Table = {
    **_DECALS,
    "smooth-or-featured": ("smooth featured-or-disk problem",),
    "clumps": ("yes no", _FACE_ON),
    "problem": ("star artifact zoom", "smooth-or-featured=problem"),
    "artifact": ("satellite scattered diffraction ray saturation other", "problem=artifact"),
}
_EUCLID: Table = {
    **_COSMIC_DAWN,
    "artifact": ("satellite scattered diffraction ray saturation other ghost", "problem=artifact"),
}
_JWST: Table = {
    **_DECALS,
    "smooth-or-featured": ("smooth featured-or-disk star-artifact-zoom",),
    "clumps": ("yes no",),
    "problem": ("star artifact bad-zoom", "smooth-or-featured=star-artifact-zoom"),
}

# Questions about the simulated galaxies of `make_survey`: two campaigns, each with its own questions.
_SIMULATED_FIRST: Table = {
    "smooth-or-featured": ("smooth featured",),
    "how-rounded": ("round in-between cigar", _SMOOTH),
    "disk-edge-on": ("yes no", "smooth-or-featured=featured"),
    "has-spiral-arms": ("yes no", _FACE_ON),
    "spiral-arm-count": ("1 2 3 4", _SPIRAL),
}
_SIMULATED_SECOND: Table = {
    "smooth-or-featured": ("smooth featured",),
    "disk-edge-on": ("yes no", "smooth-or-featured=featured"),
    "bar": ("yes no", _FACE_ON),
    "bulge-size": ("small moderate dominant", _FACE_ON),
    "merging": ("yes no",),
}


SCHEMAS = {
    "gz2": _schema(_GZ2, "-gz2"),
    "gz_decals_dr12": _schema(_DECALS_DR12, "-dr12"),
    "gz_decals_dr5": _schema(_DECALS, "-dr5"),
    "gz_decals_dr8": _schema(_DECALS, "-dr8"),
    "gz_desi": _schema(_DECALS),
    "gz_hubble": _schema(_without(_HUBBLE, "clump-count"), "-hubble"),
    "gz_hubble_v2": _schema(_HUBBLE_V2, "-hubble"),
    "gz_candels": _schema(_without(_CANDELS, "clump-count"), "-candels"),
    "gz_cosmic_dawn": _schema(_COSMIC_DAWN, "-cd"),
    "gz_euclid": _schema(_EUCLID, "-euclid"),
    "gz_jwst": _schema(_JWST, "-jwst"),
    "gz_jwst_cosmos": _schema(_without(_JWST, "how-rounded"), "-jwst"),
    "gz_ukidss": _schema(_GZ2, "-ukidss"),
    "gz_rings": _schema({"ring": ("yes no",)}),
    "simulated": _schema(_SIMULATED_FIRST, "-first") + _schema(_SIMULATED_SECOND, "-second"),
}
_SHARED = [SCHEMAS[name] for name in ("gz_decals_dr12", "gz_decals_dr5", "gz_decals_dr8", "gz2")]
SCHEMAS["gz_evo"] = reduce(add, [*_SHARED, _schema(_CANDELS, "-candels"), _schema(_HUBBLE, "-hubble")])
SCHEMAS["gz_evo_public"] = reduce(add, [*_SHARED, SCHEMAS["gz_candels"], SCHEMAS["gz_hubble"]])


def get_schema(schema: str | VoteSchema) -> VoteSchema:
    """Return the schema of a campaign by name; a `VoteSchema` is returned unchanged.

    Parameters
    ----------
    schema : str or VoteSchema
        One of ``SCHEMAS``, or a schema.

    Returns
    -------
    VoteSchema
        For a name, a fresh copy, never the object in the table.

    Raises
    ------
    ValueError
        If no campaign has that name, or if this is neither a name nor a schema.

    Notes
    -----
    Columns are those of the published catalogs. Trees are those that volunteers walked. The tables of Zoobot, where a
    question depends on at most one answer, are less complete:

    - Galaxy Zoo 2 and UKIDSS ask about bar, bulge and spiral arms only for discs that are not edge-on, and ask whether
      something is odd for everything but artifacts;
    - Hubble and CANDELS ask how tight the arms are, and how many, only if arms were seen;
    - the question whether a galaxy merges is asked for smooth and for featured galaxies, not for artifacts.

    ``"gz_evo"`` has the 65 questions and 206 answers of Walmsley et al. (2022). Later tables, here ``"gz_evo_public"``,
    leave out the number of clumps in CANDELS and Hubble, and so do ``"gz_candels"`` and ``"gz_hubble"``: 63 and 194.
    None of them has the eleventh question of Galaxy Zoo 2, which asks what the odd feature is. ``"simulated"`` has the
    questions that :func:`~skastro.datasets.make_survey` can ask about its galaxies.

    References
    ----------
    Willett et al. (2013), "Galaxy Zoo 2", `arXiv:1308.3496 <https://arxiv.org/abs/1308.3496>`_, table 2. Willett et al.
    (2017), "Galaxy Zoo: Hubble". Simmons et al. (2017), "Galaxy Zoo: CANDELS". Walmsley et al. (2022), "Galaxy Zoo
    DECaLS", `arXiv:2102.08414 <https://arxiv.org/abs/2102.08414>`_. Walmsley et al. (2023), "Galaxy Zoo DESI". The
    names of columns are those of the package ``galaxy-datasets``.

    Examples
    --------
    >>> from skastro.votes import get_schema
    >>> get_schema("gz2").columns[:3]
    ['smooth-or-featured-gz2_smooth', 'smooth-or-featured-gz2_featured-or-disk', 'smooth-or-featured-gz2_artifact']
    >>> get_schema("gz_evo").n_questions, get_schema("gz_evo").n_answers
    (65, 206)
    """
    if isinstance(schema, VoteSchema):
        return schema
    if not isinstance(schema, str) or schema not in SCHEMAS:
        raise ValueError(f"Unknown schema {schema!r}; known are {', '.join(SCHEMAS)}, or give a VoteSchema(...).")
    return clone(SCHEMAS[schema])
