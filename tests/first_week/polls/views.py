from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views import generic

from .forms import QuestionForm
from .models import Question


def index(request):
    return HttpResponse("There are %d questions." % Question.objects.count())


def detail(request, question_id):
    try:
        question = Question.objects.get(pk=question_id)
    except Question.DoesNotExist:
        raise Http404("No such question")
    return HttpResponse(question.text)


def ask(request):
    if request.method == "POST":
        form = QuestionForm(request.POST)
        if form.is_valid():
            form.save()
            return HttpResponse("Thank you")
        else:
            return render(request, "polls/ask.html", {"form": form})
    return render(request, "polls/ask.html", {"form": QuestionForm()})


class QuestionList(generic.ListView):
    model = Question
    paginate_by = 10

    def get_queryset(self):
        return Question.objects.order_by("-published")[:5]
