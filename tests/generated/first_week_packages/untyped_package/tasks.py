from celery import shared_task


@shared_task
def send_queued(processes=1):
    return processes
