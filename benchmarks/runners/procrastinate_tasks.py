"""Procrastinate with the periodic task of its documentation, which retries stalled jobs."""

import os

from procrastinate import App, JobContext, PsycopgConnector
from record import run

app = App(connector=PsycopgConnector(conninfo=os.environ["POSTGRESQL"]))


@app.task(name="work")
def work(number: int, seconds: float) -> None:
    run(number, seconds)


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="retry_stalled", pass_context=True)
async def retry_stalled(_context: JobContext, timestamp: int) -> None:  # noqa: ARG001 - its name
    for job in await app.job_manager.get_stalled_jobs():
        await app.job_manager.retry_job(job)


def send(number: int, seconds: float) -> None:
    if number == 0:
        app.open()
    work.defer(number=number, seconds=seconds)
