from django.db.models import F
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views import generic

from .forms import QuestionForm
from .models import Choice, Question


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


def vote(request, question_id):
    question = get_object_or_404(Question, pk=question_id)
    try:
        selected = question.choice_set.get(pk=request.POST["choice"])
    except (KeyError, Choice.DoesNotExist):
        return HttpResponse("You chose nothing.", status=400)
    else:
        selected.votes = F("votes") + 1
        selected.save()
        return HttpResponseRedirect(reverse("polls:detail", args=(question.id,)))
