import time


class TimingMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        start = time.time()
        response = self.get_response(request)
        response["X-Time"] = str(time.time() - start)
        return response


def simple_middleware(get_response):
    def middleware(request):
        return get_response(request)

    return middleware
