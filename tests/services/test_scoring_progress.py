import io

from policies.rewards.evaluation.layouts import PromptedVideo
from policies.rewards.evaluation.score_file import VideoScores
from policies.rewards.evaluation.scoring import ScoredVideos
from services.scoring_progress import scoring_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run_through(stream: io.StringIO) -> str:
    scored = ScoredVideos()
    with scoring_progress(3, stream) as progress:
        scored.scores[PromptedVideo("a.mp4", "p")] = VideoScores(raw={}, normalised={}, overall=0.0)
        progress(scored)
        for prompt in "pq":
            scored.fail(PromptedVideo("[red]b.mp4", prompt), "no such file")
            progress(scored)
    return stream.getvalue()


def test_a_pipe_gets_lines_and_each_bad_video_once() -> None:
    warning, last = run_through(io.StringIO()).splitlines()
    assert warning == "warning: [red]b.mp4: no such file"
    assert last.startswith("scored 3/3: ") and last.endswith("videos/s, 2 bad")


def test_a_terminal_gets_a_bar_and_each_bad_video_once() -> None:
    out = run_through(Terminal())
    assert "3/3" in out and out.count("warning: [red]b.mp4: no such file") == 1
