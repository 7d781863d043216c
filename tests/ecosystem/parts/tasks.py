"""The application of celery_row.py."""

import os
import time

from celery import Celery

DIRECTORY = os.environ.get("ECOSYSTEM_BROKER", "/nonexistent")
QUEUE = {"data_folder_in": f"{DIRECTORY}/queue", "data_folder_out": f"{DIRECTORY}/queue",
         "control_folder": f"{DIRECTORY}/control"}
app = Celery("tasks", broker="filesystem://", backend=f"file://{DIRECTORY}/results")
app.conf.update(broker_transport_options=QUEUE, worker_hijack_root_logger=False,
                broker_connection_retry_on_startup=True)


@app.task
def pid_after(seconds):
    time.sleep(seconds)
    return os.getpid()


@app.task
def double(x):
    return 2 * x


@app.task
def fails(text):
    raise ValueError(text)


@app.task
def dies(number):
    os.kill(os.getpid(), number)


@app.task(soft_time_limit=1)
def takes_too_long():
    time.sleep(60)


@app.task(time_limit=1)
def hangs():
    time.sleep(60)
