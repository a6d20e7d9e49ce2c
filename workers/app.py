"""The Celery application: `celery -A workers.app worker` runs the tasks; Redis or a folder of files carries the hints.

The database is the truth and the queue a hint: no result is kept, nothing is retried by the broker, and whatever the
queue loses is found by the sweep of `workers.schedule`.
"""

from typing import Any

from celery import Celery, signals

from store.database import get_engine
from workers import heartbeats
from workers.logs import configure_logging
from workers.settings import WorkerSettings, get_settings

QUEUE = "cachescope"


def broker(settings: WorkerSettings) -> dict[str, Any]:
    """Return the part of Celery's configuration that says where the queue is.

    A broker that is away must never hold up whoever has something to say to it, so every wait on a socket is short.
    On Redis three options are set together: kombu looks for messages of dead workers only every
    `unacked_restore_interval` x `unacked_restore_throttle` seconds, which is 100 s unless both are named.
    """
    if settings.redis_url:
        return {
            "broker_url": settings.redis_url,
            "broker_transport": None,
            "broker_transport_options": {
                "visibility_timeout": max(60, int(settings.lease_seconds * 2)),
                "unacked_restore_interval": 1,
                "unacked_restore_throttle": 5,
                "socket_connect_timeout": 0.5,
                "socket_timeout": 5.0,
                "socket_keepalive": True,
                "retry_on_timeout": False,
            },
        }
    folder = settings.queue_folder.absolute()
    return {
        "broker_url": "filesystem://localhost",
        "broker_transport": "workers.file_queue:Transport",
        "broker_transport_options": {
            "data_folder_in": str(folder),
            "data_folder_out": str(folder),
            "control_folder": str(folder),
            "polling_interval": settings.poll_seconds,
        },
    }


def create_app(settings: WorkerSettings | None = None) -> Celery:
    """Make the Celery application with its tasks."""
    settings = settings or get_settings()
    celery = Celery(
        "cachescope",
        include=[
            "workers.tasks.feedback",
            "workers.tasks.ingest",
            "workers.tasks.mailing",
            "workers.tasks.notifying",
            "workers.tasks.measuring",
        ],
    )
    celery.conf.update(
        broker(settings),
        task_default_queue=QUEUE,
        task_default_exchange=QUEUE,
        task_default_routing_key=QUEUE,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
        timezone="UTC",
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_max_tasks_per_child=1000,
        worker_max_memory_per_child=1_000_000,  # kB: a reader that grew past it is replaced after its task
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=1.0,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    return celery


app = create_app()


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    """Write the worker's log as the web process writes its own."""
    configure_logging()


@signals.worker_process_init.connect
def _begin_process(**_: Any) -> None:
    """Give each process of the pool connections and a heartbeat of its own: neither survives a fork."""
    get_engine.cache_clear()
    heartbeats.start("worker")
