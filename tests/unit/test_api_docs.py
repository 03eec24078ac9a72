"""The reference names everything that the service answers."""

from __future__ import annotations

from _fake_learner import FakeLearner, fake_analyse
from _running import settings_of
from latticewatch.execute import Engine
from latticewatch.messages import EVENT_TYPES
from latticewatch.serve import create_app


def test_the_reference_names_every_resource_and_every_close_code(project, tmp_path):
    text = (project / "docs/reference/api.md").read_text(encoding="utf-8")
    settings = settings_of(tmp_path)
    engine = Engine(settings, learner=FakeLearner(), analyse=fake_analyse)
    paths = create_app(engine, settings).openapi()["paths"]
    engine.close()
    for path, methods in paths.items():
        for method in methods:
            assert f"`{method.upper()} {path.replace('{class_id}', '{id}')}" in text, (method, path)
    for code in (1001, 1007, 1008, 1013, 4401, 4410):
        assert f"| {code} |" in text


def test_the_description_of_the_sockets_names_every_event_type(project):
    text = (project / "docs/reference/asyncapi.yaml").read_text(encoding="utf-8")
    listed = {line.strip("- \n") for line in text.splitlines() if line.startswith("              - ")}
    assert listed == set(EVENT_TYPES)
